"""Measures what each block of a trained residual network contributes, and leaves out the least.

    python experiments/shorten.py DATASET --weights denoise
    python experiments/shorten.py DATASET --weights denoise -o OUT.safetensors

DATASET is a prepared dataset with held-out photographs. The first command prints their PSNR without
each block in turn, the mean over the task's levels. The second also writes weights without the
block whose absence costs least; train on from them with `--config.initial_weights=OUT.safetensors`.
"""

import argparse

from ml_collections import ConfigDict

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.data.prepare import open_split
from hypernet_jax.files import check_output
from hypernet_jax.training.shortening import block_count, silenced, without_block
from hypernet_jax.training.validation import Validation
from hypernet_jax.weights import load_weights_and_config, save_weights

_IMAGES, _SIDE = 8, 128


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="made by `hypernet-jax prepare ... --held-out N`")
    parser.add_argument("--weights", required=True, help="a task, or a file")
    parser.add_argument("-o", "--output", help="weights with one block fewer; default: none")
    args = parser.parse_args()
    with exit_with_sentence():
        if args.output:
            check_output(args.output, overwrite=False)
        model, theta, config = load_weights_and_config(args.weights)
        blocks = block_count(model)
        measured = {"levels": model.task.levels, "images": _IMAGES, "crop_size": _SIDE}
        validation = Validation(model, open_split(args.dataset, "validation"), ConfigDict(measured))
        print(f"all blocks: {validation(theta)['validation/psnr']:.2f} dB", flush=True)
        without = {}
        for block in range(blocks):
            without[block] = validation(silenced(theta, block))["validation/psnr"]
            print(f"without block {block}: {without[block]:.2f} dB", flush=True)
        if not args.output:
            return
        least = max(without, key=without.get)
        config["network"]["blocks"] = blocks - 1
        save_weights(args.output, without_block(theta, least), config)
    print(f"{args.output}: without block {least}")


if __name__ == "__main__":
    main()
