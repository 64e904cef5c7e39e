"""The studies of the reports: test sets, levels and methods of each task."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hypernet_jax.errors import UserError
from hypernet_jax.evaluation.measure import evaluate
from hypernet_jax.evaluation.studies import blind_study, requested_study, weight_space
from hypernet_jax.hypernet import Theta
from hypernet_jax.images.folders import find_images
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.model import make_model, model_config
from hypernet_jax.weights import load_weights_and_config

__all__ = [
    "BEGUN_FROM_SHIPPED",
    "CHOICES",
    "METHODS",
    "STUDIES",
    "Study",
    "measure_study",
    "with_stored",
]

# Studies of runs of configs/comparison.py; all others use the shipped weights.
OF_RUNS = ("comparison", "specialised", "weights", "choices")
# The variants of configs/comparison.py besides the dedicated networks, and their names.
METHODS = {
    "hypernetwork": "one hypernetwork, levels drawn",
    "whole": "the same, seven of ten levels whole numbers",
    "equal": "the first, equal weights of levels",
    "published": "equal weights, published levels",
    "polynomial": "equal weights, quadratic in the level",
    "level_plane": "equal weights, level as an input plane",
    "ends": "two networks, interpolated (DNI)",
}
# As METHODS, for networks that start from the shipped weights: the gain of specialising.
BEGUN_FROM_SHIPPED = {
    "continued": "the shipped hypernetwork, trained on",
    "shipped": "the shipped hypernetwork as it is",
}

# Parts of the recipe, replaced one at a time: name of the run, replacement, override. All are
# compared with "equal", the recipe with equal weights of levels.
CHOICES = {
    "equal": ("the recipe, but levels weigh alike", ""),
    "relative": ("relative weights: the recipe", "--config.levels.weighting=relative"),
    "squared": ("squared errors", "--config.loss=l2"),
    "adam": ("Adam for Muon", "--config.optimizer.name=adam --config.optimizer.learning_rate=2e-3"),
    "same-crops": ("the same crops for all levels", "--config.levels.own_crops=False"),
    "large-crops": (
        "one crop of 78x78 for six of 32x32",
        "--config.data.crops=1 --config.data.crop_size=78",
    ),
    "direct": ("no residual output", "--config.network.residual_output=False"),
    "no-average": ("no average of parameters", "--config.ema_decay=0"),
    "low-levels": ("more low levels", "--config.levels.power=2"),
    "noise-share": ("z = sigma / (sigma + 25)", "--config.levels.normalisation=noise_share"),
    "published": ("published levels", "configs/comparison.py:denoise-published"),
    "quadratic": ("quadratic features", "--config.features.name=polynomial"),
}


@dataclasses.dataclass(frozen=True)
class Study:
    """One task's report.

    Attributes:
      page: the page to fill, below docs/.
      figures: (test set, protocol, levels) of the tables.
      summary: levels of the first test set for the README.
      ensemble: levels, with the first test set and protocol, for self-ensemble.
      compared: test set, protocol and levels of the comparison with dedicated networks.
      requested: test set, protocol, number of images and levels of the table of wrong levels.
      fine: (true level, requested levels around it), to measure the smoothness of PSNR.
      blind: test set, protocol, number of images and levels of the table of estimated levels;
        None: no estimate.
    """

    page: str
    figures: tuple[tuple[str, str, tuple[float, ...]], ...]
    summary: tuple[float, ...]
    ensemble: tuple[float, ...]
    compared: tuple[str, str, tuple[float, ...]]
    requested: tuple[str, str, int, tuple[float, ...]]
    fine: tuple[float, tuple[float, ...]]
    blind: tuple[str, str, int, tuple[float, ...]] | None = None


STUDIES = {
    "denoise": Study(
        page="results/denoising.md",
        figures=(
            ("CBSD68", "8-bit", (0, 5, 10, 15, 25, 35, 50, 75, 90)),
            ("Kodak24", "8-bit", (0, 15, 25, 50)),
            ("CBSD68", "grey", (15, 25, 50)),
        ),
        summary=(5, 15, 25, 50, 75),
        ensemble=(15, 25, 35, 50, 75),
        compared=("CBSD68", "8-bit", (5, 15, 25, 50, 75, 90)),
        requested=("CBSD68", "8-bit", 6, (0, 5, 10, 15, 25, 35, 50, 75, 90)),
        fine=(25, tuple(range(18, 33))),
        blind=("CBSD68", "8-bit", 24, (5, 10, 15, 25, 50, 75)),
    ),
    "dejpeg": Study(
        page="results/dejpeg.md",
        figures=(
            ("LIVE1", "grey", (10, 20, 30, 40, 60, 80, 90)),
            ("LIVE1", "colour", (10, 20, 30, 40, 60, 80, 90)),
        ),
        summary=(10, 20, 30, 40),
        ensemble=(10, 20, 30, 40),
        compared=("LIVE1", "colour", (10, 30, 60)),
        requested=("LIVE1", "colour", 6, (5, 10, 20, 30, 40, 60, 80, 95)),
        fine=(30, (20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40)),
        blind=("LIVE1", "colour", 12, (5, 10, 20, 40, 60, 80, 90)),
    ),
    "sr": Study(
        page="results/super_resolution.md",
        figures=(
            ("Set5", "y", (1.5, 2, 2.5, 3, 3.5, 4, 5)),
            ("Set14", "y", (2, 3, 4)),
        ),
        summary=(2, 2.5, 3, 4),
        ensemble=(2, 3, 4),
        compared=("Set5", "y", (2, 3, 4)),
        requested=("Set5", "y", 0, (1.5, 2, 2.5, 3, 3.5, 4, 5)),
        fine=(3, (2.6, 2.7, 2.8, 2.9, 3, 3.1, 3.2, 3.3, 3.4)),
    ),
}


class _Trained(NamedTuple):
    """Weights to compare: their method, the config of their model, and training steps."""

    method: str
    model: dict[str, Any]
    steps: int
    theta: Theta


def _trained(runs: Path, task: str, methods: Iterable[str]) -> Iterator[_Trained]:
    """Yields the averaged weights of the existing runs."""
    from hypernet_jax.checkpoints import checkpoint_steps, load_ema

    for method in methods:
        workdir = runs / f"{task}-{method}"
        if not workdir.is_dir():
            continue
        config, theta = load_ema(workdir)
        done = checkpoint_steps(workdir)[-1]
        if done < config["steps"]:
            raise UserError(
                f"{workdir} has {done} of its {config['steps']} steps; train it to its end first."
            )
        yield _Trained(method, model_config(config), done, theta)


def _shipped(task: str) -> _Trained:
    """The shipped weights, with 0 further steps."""
    theta, config = load_weights_and_config(task)[1:]
    return _Trained("shipped", config, 0, theta)


def _comparison(
    task: str,
    datasets: Path,
    runs: Path,
    trained: Iterable[_Trained],
    *,
    images: int = 0,
) -> dict[str, Any]:
    """PSNR of runs at the task's compared levels; `images`: number of images, 0: all."""
    name, protocol, levels = STUDIES[task].compared
    rows, study = {}, {}
    for method, model, steps, theta in trained:
        if method == "ends":  # trained side by side, but evaluated by interpolation
            model = {**model, "features": {**model["features"], "name": "interpolated"}}
        restorer = Restorer(make_model(model), theta)
        psnr = []
        for level in levels:
            study = requested_study(
                restorer,
                datasets / name,
                levels=[level],
                requested=[level],
                protocol=protocol,
                images=images,
            )
            psnr.append(study["psnr"][0][0])
        rows[method] = {
            "psnr": psnr,
            "steps": steps,
            "trainable": restorer.model.parameter_counts()["trainable_parameters"],
        }
        print(method, psnr, flush=True)
    if not rows:
        raise UserError(f"{runs} holds no run of configs/comparison.py called {task}-METHOD.")
    _check_steps(rows, "steps")
    conditions = {key: study[key] for key in ("dataset", "protocol", "images", "seed")}
    return {**conditions, "levels": list(levels), "rows": rows}


def _spaces(task: str, runs: Path) -> dict[str, Any]:
    """The weight spaces of the methods that generate weights."""
    plan, spaces = STUDIES[task], {}
    methods = ("hypernetwork", "equal", "published", "polynomial", "dedicated")
    for method, model, _, theta in _trained(runs, task, methods):
        levels = plan.compared[-1] if method == "dedicated" else plan.requested[-1]
        spaces[method] = weight_space(make_model(model), theta, levels)
    if not spaces:
        raise UserError(f"{runs} holds no run of configs/comparison.py called {task}-METHOD.")
    return spaces


def _choices(task: str, runs: Path) -> dict[str, Any]:
    """Final validation PSNR of each existing run of `CHOICES`."""
    rows = {}
    for name in CHOICES:
        path = runs / f"{task}-{name}" / "metrics.jsonl"
        if path.is_file():
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            last = [line for line in lines if "validation/psnr" in line][-1]
            rows[name] = {
                "step": last["step"],
                "psnr": last["validation/psnr"],
                "levels": {
                    key.rpartition("_")[2]: value
                    for key, value in last.items()
                    if key.startswith("validation/psnr_")
                },
            }
    if not rows:
        raise UserError(f"{runs} holds no run {task}-NAME of {', '.join(CHOICES)}.")
    return rows


def with_stored(study: str, stored: Any, result: Any) -> Any:
    """Adds stored results for runs that are not available."""
    if stored is None or study not in OF_RUNS:
        return result
    if study in ("comparison", "specialised"):
        about = [{**one, "rows": None} for one in (stored, result)]
        if about[0] != about[1]:
            raise UserError(
                "The stored rows have another test set, levels or images; remove them, or give "
                "all runs."
            )
        rows = {**stored["rows"], **result["rows"]}
        _check_steps(rows, "steps")
        return {**result, "rows": rows}
    rows = {**stored, **result}
    if study == "choices":
        _check_steps(rows, "step")
    return rows


def _check_steps(rows: Mapping[str, Mapping[str, Any]], entry: str) -> None:
    """Raises `UserError` unless all runs of a table were trained equally long."""
    steps = {name: row[entry] for name, row in rows.items() if name != "shipped"}
    if len(set(steps.values())) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in steps.items())
        raise UserError(
            f"The runs of one table have different numbers of steps ({shown}); give all of them "
            "the same."
        )


def _means(report: dict[str, Any]) -> dict[str, Any]:
    """A report without the figures of single images."""
    rows = [{key: row[key] for key in row if key != "each"} for row in report["rows"]]
    return report | {"rows": rows}


def measure_study(study: str, task: str, *, datasets: Path | None, runs: Path | None) -> Any:
    """Measures one study of a task.

    The studies: figures, ensemble, requested, blind; of RUNS: comparison, specialised, weights,
    choices.
    """
    plan = STUDIES[task]
    if study in OF_RUNS and runs is None:
        raise UserError("Give --runs, the folder of the runs.")
    if study not in ("weights", "choices") and datasets is None:
        raise UserError("Give --datasets, the folder of the test sets.")
    if study == "weights":
        return _spaces(task, runs)
    if study == "choices":
        return _choices(task, runs)
    if study == "comparison":
        return _comparison(task, datasets, runs, _trained(runs, task, ("dedicated", *METHODS)))
    if study == "specialised":
        both = [*_trained(runs, task, ("specialised", "continued"))]
        if len(both) < 2:
            raise UserError(f"{runs} lacks the runs {task}-specialised and {task}-continued.")
        # Differences between such similar networks hardly depend on the images.
        trained = itertools.chain(both, [_shipped(task)])
        return _comparison(task, datasets, runs, trained, images=24)
    restorer = Restorer.from_pretrained(task, self_ensemble=study == "ensemble")
    if study == "ensemble":
        name, protocol, _ = plan.figures[0]
        return _means(evaluate(restorer, datasets / name, levels=plan.ensemble, protocol=protocol))
    if study == "figures":
        for name, _, _ in plan.figures:
            find_images(datasets / name)  # before hours of measuring
        return [
            _means(evaluate(restorer, datasets / name, levels=levels, protocol=protocol))
            | {"parameters": restorer.model.parameter_counts()}
            for name, protocol, levels in plan.figures
        ]
    if study == "requested":
        name, protocol, images, levels = plan.requested
        true_level, around = plan.fine
        return {
            part: requested_study(
                restorer,
                datasets / name,
                levels=true,
                requested=requested,
                protocol=protocol,
                images=images,
            )
            for part, true, requested in (
                ("table", levels, levels),
                ("fine", [true_level], around),
            )
        }
    if study == "blind" and plan.blind:
        name, protocol, images, levels = plan.blind
        return blind_study(
            restorer, datasets / name, levels=levels, protocol=protocol, images=images
        )
    raise UserError(f"The report of {task} has no study {study!r}.")
