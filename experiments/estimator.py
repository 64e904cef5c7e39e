"""Trains the level estimator that ships with the task `photo`.

    python experiments/estimator.py DATASET OUT.safetensors

DATASET is a folder made by `hypernet-jax prepare`. Two cores take about ten minutes.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.photo import get_config
from hypernet_jax import get_task
from hypernet_jax.training.estimator import estimator_examples, train_estimator
from hypernet_jax.training.loop import make_sampler

TASK = get_task("photo")


def sampler():
    """Levels as in training, but with more photographs that lack a part."""
    config = get_config("unet")
    config.levels.absent = (0.12, 0.6, 0.8)
    config.levels.power = (2.0, 1.0, 1.5)
    return make_sampler(config)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--examples", type=int, default=16_000, help="degraded crops")
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=80)
    options = parser.parse_args()
    if options.output.exists():
        parser.error(f"{options.output} exists; choose another name.")
    seen, levels = estimator_examples(
        TASK, options.dataset, sampler=sampler(), count=options.examples, seed=options.seed
    )
    errors: dict[str, float] = {}
    made = train_estimator(TASK, seen, levels, steps=options.steps, report=errors.update)
    made.save(options.output)
    print("mean error of z:", ", ".join(f"{name} {each:.3f}" for name, each in errors.items()))


if __name__ == "__main__":
    main()
