"""Evaluates a hypernetwork, or another program, on a folder of images:

python evaluate.py --weights=denoise --dataset=FOLDER --levels=15,25,50 --output=DIR
python evaluate.py --task=denoise --dataset=FOLDER --levels=15,25,50 --inputs=INPUTS
python evaluate.py --task=denoise --dataset=FOLDER --levels=15,25,50 --results=RESULTS
"""

import contextlib
from typing import Any

from absl import flags

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.cli.scripts import run_script
from hypernet_jax.errors import UserError

with exit_with_sentence():  # reports are drawn by an extra of the package
    from hypernet_jax.evaluation.measure import evaluate
    from hypernet_jax.evaluation.others import evaluate_results, write_inputs
    from hypernet_jax.evaluation.pairs import evaluate_pairs
    from hypernet_jax.evaluation.report import check_report, markdown_table, write_report
    from hypernet_jax.files import refuse_among
    from hypernet_jax.inference.restorer import Restorer
    from hypernet_jax.storage import made_place
    from hypernet_jax.tasks import get_task

_WORKDIR = flags.DEFINE_string("workdir", None, "Workdir of a training run.")
_WEIGHTS = flags.DEFINE_string("weights", None, "Shipped weights by name, or a .safetensors file.")
_DATASET = flags.DEFINE_string("dataset", "", "Folder of clean images.")
_PAIRS = flags.DEFINE_string("pairs", "", "Folder of real pairs: noisy/NAME and clean/NAME.")
_TASK = flags.DEFINE_string("task", "", "Task, for --inputs and --results.")
_INPUTS = flags.DEFINE_string("inputs", "", "Folder to write the degraded images to; no report.")
_RESULTS = flags.DEFINE_string("results", "", "Folder of another program's LEVEL/NAME to measure.")
_LEVELS = flags.DEFINE_string("levels", "", "Levels in native units; default: the task's own.")
_PROTOCOL = flags.DEFINE_string("protocol", None, "Protocol; default: the task's first.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0, upper_bound=2**31 - 1)
_ENSEMBLE = flags.DEFINE_bool("self_ensemble", False, "Restore eight views and average them.")
_BACKEND = flags.DEFINE_string("backend", "auto", "jax, onnxruntime, or auto: the faster one.")
_OUTPUT = flags.DEFINE_string("output", None, "Folder for results.json, results.md and curve.png.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an earlier report, or earlier inputs.")


def _restorer() -> Restorer:
    workdir, weights = _WORKDIR.value, _WEIGHTS.value
    ensemble, backend = _ENSEMBLE.value, _BACKEND.value
    if workdir is not None and weights is None:
        return Restorer.from_workdir(workdir, self_ensemble=ensemble, backend=backend)
    if weights is not None and workdir is None:
        return Restorer.from_pretrained(weights, self_ensemble=ensemble, backend=backend)
    raise UserError("Give either --workdir=DIR or --weights=NAME, and not both.")


def _check_flags() -> None:
    """Raises `UserError` for flags that do not belong together."""
    if bool(_DATASET.value) == bool(_PAIRS.value):
        raise UserError(
            "Give either --dataset=FOLDER, a folder of clean images, or --pairs=FOLDER, a folder "
            "with the folders noisy and clean."
        )
    if _PAIRS.value and (_PROTOCOL.value is not None or flags.FLAGS["seed"].present):
        raise UserError("Real pairs have no protocol and no seed; leave --protocol and --seed out.")
    others = bool(_INPUTS.value) + bool(_RESULTS.value)
    if others != bool(_TASK.value):
        raise UserError("Give --task with one of --inputs and --results, and only then.")
    ours = ("weights", "workdir", "pairs", "self_ensemble", "backend")
    if others and any(flags.FLAGS[name].present for name in ours):
        raise UserError(
            "--inputs and --results are for other programs; leave "
            f"{', '.join(f'--{name}' for name in ours)} out."
        )
    if _INPUTS.value and _OUTPUT.value is not None:
        raise UserError("--inputs measures nothing; leave --output out.")


def main(argv):
    del argv  # only flags are used
    _check_flags()
    with contextlib.nullcontext() if _OUTPUT.value is None else made_place(_OUTPUT.value):
        _run()


def _run() -> None:
    options: dict[str, Any] = {
        "levels": _LEVELS.value or (),
        "protocol": _PROTOCOL.value,
        "seed": _SEED.value,
    }
    if _INPUTS.value:
        for folder in write_inputs(
            get_task(_TASK.value),
            _DATASET.value,
            _INPUTS.value,
            overwrite=_OVERWRITE.value,
            **options,
        ):
            print(f"wrote {folder}")
        return
    if _OUTPUT.value is not None:
        for images in filter(None, (_DATASET.value, _PAIRS.value, _RESULTS.value)):
            refuse_among(_OUTPUT.value, images)
        check_report(_OUTPUT.value, overwrite=_OVERWRITE.value)  # before the evaluation
    if _RESULTS.value:
        results = evaluate_results(get_task(_TASK.value), _DATASET.value, _RESULTS.value, **options)
    elif _PAIRS.value:
        results = evaluate_pairs(_restorer(), _PAIRS.value, levels=options["levels"])
    else:
        results = evaluate(_restorer(), _DATASET.value, **options)
    results["source"] = _RESULTS.value or _WEIGHTS.value or _WORKDIR.value
    print(markdown_table(results))
    if _OUTPUT.value is not None:
        for path in write_report(results, _OUTPUT.value, overwrite=_OVERWRITE.value):
            print(f"wrote {path}")


if __name__ == "__main__":
    run_script(main)
