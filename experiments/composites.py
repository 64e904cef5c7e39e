"""Restores two levels in one photograph, and compares each region with a uniform restoration.

    python experiments/composites.py CBSD68 --weights denoise --levels 10 40

The left half of each image has noise of the first sigma, the right half of the second, with a
hard edge or a soft one of 64 pixels. PSNR is over the pixels of each region outside the network's
reach from the border, and over those within 8 pixels of the hard edge; 8 bits, seed 0.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from hypernet_jax import Restorer
from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.evaluation.measure import noise_key
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.reading import read_image
from hypernet_jax.metrics import psnr
from hypernet_jax.networks import spec_of

_SOFT = 64
_NEAR = 8


def main() -> None:
    """Prints one row per edge and region."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", default="denoise")
    parser.add_argument("--levels", type=float, nargs=2, default=(10.0, 40.0))
    args = parser.parse_args()
    restorer = Restorer.from_pretrained(args.weights)
    reach = spec_of(restorer.model.network).reach
    left, right = args.levels
    figures: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for path in find_images(args.folder):
        clean = read_image(path).astype(np.float32)
        height, width = clean.shape[:2]
        noise = np.asarray(
            jax.random.normal(noise_key(0, path.relative_to(args.folder).as_posix()), clean.shape)
        )

        def seen(sigma, clean=clean, noise=noise):
            return np.clip(np.round(clean + sigma * noise), 0, 255).astype(np.uint8)

        across = np.arange(width) - width / 2
        alone = {sigma: restorer.restore(seen(sigma), level=sigma) for sigma in (left, right)}
        for edge, half in (("hard", 0), ("soft", _SOFT // 2)):
            share = (across >= 0) if not half else np.clip(0.5 + across / (2 * half), 0, 1)
            levels = (left + share * (right - left))[None] * np.ones((height, 1))
            made = restorer.restore(seen(levels[..., None]), level=levels)
            parts = [
                (edge, left, across < -half - reach),
                (edge, right, across > half + reach),
            ]
            if not half:
                near = f"hard, within {_NEAR} pixels"
                parts += [
                    (near, left, (across < 0) & (across >= -_NEAR)),
                    (near, right, (across >= 0) & (across < _NEAR)),
                ]
            for name, sigma, part in parts:
                pair = tuple(psnr(each[:, part], clean[:, part]) for each in (made, alone[sigma]))
                figures.setdefault((name, sigma), []).append(pair)
    print("| edge | region | with the map, dB | alone, dB |")
    print("| --- | ---: | ---: | ---: |")
    for (edge, sigma), pairs in figures.items():
        mapped, uniform = np.mean(pairs, axis=0)
        print(f"| {edge} | sigma {sigma:g} | {mapped:.3f} | {uniform:.3f} |")


if __name__ == "__main__":
    with exit_with_sentence():
        main()
