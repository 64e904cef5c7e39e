"""Compares the time of training steps with a workdir in a store and on this machine.

    python benchmarks/bucket_step.py s3://BUCKET/NAME [--dataset ADDRESS] [--steps 100]

Trains the same network with both, in turns, with a checkpoint at every 25 steps, which is far more
often than in use. Last line: JSON with seconds per step, from the second checkpoint on, of the
fastest repeat of each, and their ratio.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from preemption import REPOSITORY

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.cli.info import load_config
from hypernet_jax.training.loggers import register_logger
from hypernet_jax.training.loop import train

_EVERY = 25


class _Clock:
    """A logger that keeps the time at which each line is written."""

    times: dict[int, float] = {}  # noqa: RUF012

    def __init__(self, *_args, **_options):
        self.times.clear()

    def write(self, step: int, values) -> None:
        if "loss" in values:
            self.times[step] = time.monotonic()

    def close(self) -> None:
        pass


def seconds_per_step(workdir: str | Path, dataset: str, steps: int) -> float:
    """Of a run of so many steps, without its beginning."""
    config = load_config(f"{REPOSITORY}/configs/denoise.py:compact")
    config.steps, config.data.dataset = steps, dataset
    config.checkpoint.every = config.log_every = _EVERY
    config.validation.every = steps
    config.loggers = ("clock",)
    train(config, workdir, progress=False)
    first = 2 * _EVERY
    return (_Clock.times[steps] - _Clock.times[first]) / (steps - first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", help="address of a new folder")
    parser.add_argument("--dataset", default="", help="folder or address")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    if args.steps <= 2 * _EVERY:
        parser.error(f"--steps must be above {2 * _EVERY}, where timing begins")
    register_logger("clock", _Clock)
    found: dict[str, list[float]] = {"here": [], "store": []}
    with exit_with_sentence(), tempfile.TemporaryDirectory() as folder:
        for repeat in range(args.repeats):
            for where, place in (("here", folder), ("store", args.workdir)):
                workdir = f"{place}/{repeat}"
                found[where].append(seconds_per_step(workdir, args.dataset, args.steps))
                print(f"{where}: {found[where][-1]:.3f} s per step")
    here, store = min(found["here"]), min(found["store"])
    print(json.dumps({"here": here, "store": store, "ratio": store / here}))


if __name__ == "__main__":
    main()
