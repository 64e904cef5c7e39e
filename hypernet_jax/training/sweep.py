"""Training a config several times with other values of its fields, and a table of the results."""

import itertools
import json
import math
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from hypernet_jax.data.prepare import fingerprint, local_dataset
from hypernet_jax.errors import DEVICE_FULL, UserError, is_device_full
from hypernet_jax.markdown import table
from hypernet_jax.storage import ensure_place, names_in, write_whole
from hypernet_jax.training.config import config_difference, flatten
from hypernet_jax.training.loop import train
from hypernet_jax.training.reports import metrics_of
from hypernet_jax.weights import load_weights

__all__ = ["Sweep", "load_sweep", "run_sweep"]

# The config that all runs of a workdir share, in the workdir, with hashes of what may be moved.
_SHARED = "shared_config.json"
_FIELDS = {"config", "set", "vary"}
_METRIC = "validation/psnr"


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file says.

    Attributes:
      config: FILE.py or FILE.py:VARIANT.
      fixed: value of each config field that all runs have.
      varied: values of each config field that the runs differ in; every combination is a run.
    """

    config: str
    fixed: dict[str, Any]
    varied: dict[str, list[Any]]

    def runs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Name and varied values of every run; names are those of their folders."""
        for values in itertools.product(*self.varied.values()):
            chosen = dict(zip(self.varied, values, strict=True))
            parts = (f"{name.rpartition('.')[2]}={_text(value)}" for name, value in chosen.items())
            yield ",".join(parts), chosen


def _text(value: Any) -> str:
    """A value as part of a folder's name."""
    text = "x".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(c if c.isalnum() or c in "+-._" else "_" for c in text) or "none"


def load_sweep(path: str | Path) -> Sweep:
    """Reads a sweep: JSON with "config", and fields of it in "set" and "vary".

    {"config": "configs/denoise.py:compact", "set": {"steps": 2000},
     "vary": {"optimizer.learning_rate": [1e-3, 2e-3], "network.channels": [32, 48]}}

    Raises:
      UserError: if it cannot be read, or two runs would have one name.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"The sweep {path} cannot be read ({reason}); give a JSON file.") from None
    if not isinstance(content, dict) or "config" not in content or content.keys() - _FIELDS:
        raise UserError(f"The sweep {path} must have the fields config, set and vary alone.")
    fixed, varied = content.get("set", {}), content.get("vary", {})
    if not isinstance(fixed, dict):
        raise UserError(f"The sweep {path} must give a value for each field in set.")
    values = varied.values() if isinstance(varied, dict) else ()
    if not values or not all(isinstance(each, list) and each for each in values):
        raise UserError(f"The sweep {path} must give a list of values for each field in vary.")
    sweep = Sweep(content["config"], fixed, varied)
    names = [name for name, _ in sweep.runs()]
    if len(set(names)) < len(names):
        raise UserError(f"Two runs of the sweep {path} would share a folder; vary other fields.")
    return sweep


def run_sweep(
    path: str | Path, workdir: str | Path, *, load: Callable[[str], Any]
) -> tuple[str, int]:
    """Trains every run of a sweep in a folder of its own; the same call resumes.

    Args:
      path: of the sweep's file, see `load_sweep`.
      workdir: holds a workdir for each run, shared_config.json with what their configs share, and
        table.md.
      load: makes the config from its name.

    Returns:
      The table of all runs so far, the best first: varied values, steps, and the best PSNR of
      validation. A run that fails, as where a loss is not finite or a device full, is a row with
      the reason, after the others. Then the number of runs that failed.

    Raises:
      UserError: before the first run, if a field or the type of a value does not fit the config,
        or the workdir holds a sweep with another config; of several processes, also where a run
        fails.
    """
    sweep, folder = load_sweep(path), ensure_place(workdir)
    configs = {
        name: _configured(path, load(sweep.config), sweep.fixed | values)
        for name, values in sweep.runs()
    }
    _check_shared(folder, _configured(path, load(sweep.config), sweep.fixed), sweep)
    stop, failures = threading.Event(), 0
    rows: list[tuple[float, list[str]]] = []
    for name, values in sweep.runs():
        print(f"{name}:", file=sys.stderr)
        failed = ""
        try:
            train(configs[name], folder / name, stop=stop)
        except UserError as error:
            failed = str(error)
        except RuntimeError as error:
            if not is_device_full(error):
                raise
            failed = DEVICE_FULL
        failures += bool(failed)
        if failed and jax.process_count() > 1:
            # The others still wait for this process in the run that failed.
            raise UserError(failed)
        step, best = _reached(folder / name)
        result = failed or ("" if best == -math.inf else f"{best:.2f}")
        rank = -math.inf if failed else best
        rows.append((rank, [*map(_text, values.values()), str(step), result]))
        header = [*sweep.varied, "steps", "best validation PSNR, dB"]
        ordered = [row for _, row in sorted(rows, key=lambda row: -row[0])]
        text = table(header, ordered, text_columns=len(sweep.varied))
        write_whole(folder / "table.md", text.encode(), overwrite=True)
        if stop.is_set():
            break
    return text, failures


def _configured(path: str | Path, config: Any, values: dict[str, Any]) -> Any:
    """The config with these values of its fields."""
    known = flatten(config.to_dict())
    for field in values:
        if field not in known:
            raise UserError(
                f"The sweep {path} does not fit its config: it has no field {field}; see "
                "the config file for its fields."
            )
    try:
        config.lock().update_from_flattened_dict({f: _field(v) for f, v in values.items()})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"The sweep {path} does not fit its config ({error}).") from None
    return config


def _check_shared(folder: Any, config: Any, sweep: Sweep) -> None:
    """Raises `UserError` if the runs in a folder share another config; else keeps it there."""
    given, place = _content(config, sweep), folder / _SHARED
    if place.exists():
        try:
            saved = json.loads(place.read_text())
        except ValueError:
            raise UserError(f"{place} is damaged; give another --workdir.") from None
        difference = [
            each
            for each in config_difference(saved, given)
            if each.split()[0].removeprefix("config.") not in sweep.varied
        ]
        if difference:
            raise UserError(
                f"The workdir {folder} holds a sweep with another config "
                f"({'; '.join(difference)}); give another --workdir or the same values."
            )
    write_whole(place, json.dumps(given, indent=2).encode(), overwrite=True)


def _content(config: Any, sweep: Sweep) -> dict[str, Any]:
    """The config with hashes of its dataset and teachers, which may move, instead of their places.

    They stay as they are where the runs differ in them.
    """
    content = json.loads(config.to_json())
    if "data.dataset" not in sweep.varied and config.data.dataset:
        content["data"]["dataset"] = fingerprint(local_dataset(config.data.dataset))
    if "distillation.teachers" not in sweep.varied and config.distillation.share:
        teachers = [load_weights(name) for name in config.distillation.teachers]
        content["distillation"]["teachers"] = [
            model.fingerprint(theta) for model, theta in teachers
        ]
    return content


def _field(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _reached(workdir: Any) -> tuple[int, float]:
    """The last step with metrics, and the highest PSNR of all validations; 0 and minus infinity
    if there is none."""
    files = [workdir / "metrics.jsonl"]
    if not isinstance(workdir, Path):  # a store has one for each checkpoint
        files = [workdir / "metrics" / name for name in names_in(workdir / "metrics")]
    text = [file.read_text() for file in files if file.exists()]
    lines = [metrics_of(line) for each in text for line in each.splitlines()]
    step = max((line.get("step", 0) for line in lines), default=0)
    return step, max((line.get(_METRIC, -math.inf) for line in lines), default=-math.inf)
