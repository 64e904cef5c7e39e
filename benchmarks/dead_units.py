"""Prints the percentage of units in each residual block that are never positive on photographs.

    python benchmarks/dead_units.py FOLDER --weights denoise [--levels 5,15,50]

ReLU units that are negative everywhere output zero and stop learning.
"""

import argparse

import numpy as np

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.reading import read_image
from hypernet_jax.training.revival import unit_inputs
from hypernet_jax.weights import load_weights

_SIDE, _COUNT = 128, 6


def crops(folder: str) -> np.ndarray:
    """Centre crops of some photographs, (N, 128, 128, 3) in [0, 1]."""
    found = []
    for path in find_images(folder):
        image = read_image(path)
        top, left = ((length - _SIDE) // 2 for length in image.shape[:2])
        if min(top, left) >= 0 and image.shape[2] == 3 and len(found) < _COUNT:
            found.append(image[top : top + _SIDE, left : left + _SIDE])
    return np.stack(found).astype(np.float32) / 255


def dead_units(name: str, level, images: np.ndarray) -> dict[str, float]:
    """Percentage of units that are never positive, by name of block."""
    model, theta = load_weights(name)
    inputs = unit_inputs(model, theta, model.task.space.parse(level), images)
    return {
        block: 100 * float((values.max(axis=(0, 1, 2)) <= 0).mean())
        for block, values in sorted(inputs.items())
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="photographs")
    parser.add_argument("--weights", default="denoise", help="a task, or a file")
    parser.add_argument("--levels", help="levels of the task; default: the task's own")
    args = parser.parse_args()
    with exit_with_sentence():
        task = load_weights(args.weights)[0].task
        levels = task.space.parse_list(args.levels) if args.levels else task.levels
        images = crops(args.folder)
        for level in levels:
            shares = dead_units(args.weights, level, images)
            shown = ", ".join(f"{block} {share:.0f}" for block, share in shares.items())
            print(f"{task.space.parse(level).describe()}: {shown}")


if __name__ == "__main__":
    main()
