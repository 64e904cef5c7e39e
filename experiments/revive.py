"""Counts the dead units of a trained network, and gives them fresh kernels.

    python experiments/revive.py PHOTOGRAPHS --weights denoise
    python experiments/revive.py PHOTOGRAPHS --weights denoise [--channels 56] -o OUT.safetensors

Dead units of residual blocks are negative on all photographs and no longer learn. The first command
prints their share of each block. The second also gives them fresh kernels, and makes the network
wider if asked to. Its result computes nearly what the weights did; train on from it with
`--config.initial_weights=OUT.safetensors`.
"""

import argparse

import jax
import numpy as np

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.degradations import example_key
from hypernet_jax.errors import UserError
from hypernet_jax.files import check_output
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.reading import read_image
from hypernet_jax.model import make_model
from hypernet_jax.networks import spec_of
from hypernet_jax.training.initial import grow
from hypernet_jax.training.revival import Examples, dead_units, revived
from hypernet_jax.weights import load_weights_and_config, save_weights

_SIDE, _COUNT = 128, 8


def photographs(folder: str) -> np.ndarray:
    """Centre crops of some photographs of a folder, uint8 (N, 128, 128, 3)."""
    found, paths = [], find_images(folder)
    for index in np.random.default_rng(0).permutation(len(paths)):
        image = read_image(paths[index])
        if min(image.shape[:2]) >= _SIDE and image.shape[2] == 3:
            top, left = ((length - _SIDE) // 2 for length in image.shape[:2])
            found.append(image[top : top + _SIDE, left : left + _SIDE])
        if len(found) == _COUNT:
            break
    if not found:
        raise UserError(f"{folder} holds no colour photograph of {_SIDE} pixels a side.")
    return np.stack(found)


def examples(task, clean: np.ndarray, key: jax.Array) -> Examples:
    """The photographs, degraded at each of the task's levels."""
    levels = [task.space.parse(level) for level in task.levels]
    return [
        (level, np.asarray(task.degradation(example_key(key, number, 0), clean, level.named)) / 255)
        for number, level in enumerate(levels)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", help="photographs")
    parser.add_argument("--weights", required=True, help="a task, or a file")
    parser.add_argument("--channels", type=int, help="new width of the network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", help="weights with fresh kernels; default: none")
    args = parser.parse_args()
    with exit_with_sentence():
        if args.output:
            check_output(args.output, overwrite=False)
        model, theta, config = load_weights_and_config(args.weights)
        fresh_key, revival_key, image_key = jax.random.split(jax.random.key(args.seed), 3)
        seen = examples(model.task, photographs(args.folder), image_key)
        dead = dead_units(model, theta, seen)
        shown = ", ".join(f"{block} {100 * units.mean():.0f}" for block, units in dead.items())
        print(f"dead units (%): {shown}")
        if not args.output:
            return
        if args.channels:
            config["network"]["channels"] = args.channels
            model = make_model(config)
            exits = spec_of(model.network).branch_exits
            theta = grow(theta, model.init(fresh_key), exits=exits)
        theta, counts = revived(revival_key, model, theta, seen)
        save_weights(args.output, theta, config)
    print("fresh units:", ", ".join(f"{block} {count}" for block, count in counts.items()))


if __name__ == "__main__":
    main()
