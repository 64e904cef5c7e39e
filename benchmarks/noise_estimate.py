"""Measures the error of the sigma estimate, and makes the table that corrects it for clipping.

    python benchmarks/noise_estimate.py FOLDER [--images 24]

Adds 8-bit noise of many sigmas to photographs of a folder (the table in
hypernet_jax/blind/noise.py is from training photographs). Prints the sigma of the
patches, the corrected estimate, and for comparison the estimate from the median
absolute deviation of the finest Haar wavelet coefficients. Last line: JSON with the table.
"""

import argparse
from pathlib import Path

import numpy as np
from timing import print_table

from hypernet_jax.blind.noise import noise_sigma, patch_sigma
from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.evaluation.measure import noise_key
from hypernet_jax.images.folders import find_images, spread
from hypernet_jax.images.reading import read_image
from hypernet_jax.tasks import get_task

SIGMAS = (0, 2, 5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 100)


def wavelet_sigma(pixels: np.ndarray) -> float:
    """Donoho's estimate from the diagonal Haar coefficients."""
    even = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
    a, b, c, d = even[::2, ::2], even[1::2, ::2], even[::2, 1::2], even[1::2, 1::2]
    return float(np.median(np.abs(a - b - c + d)) / 2 / 0.6745)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=24, help="number, spread over the folder")
    args = parser.parse_args()
    paths = find_images(Path(args.folder))
    paths = [paths[index] for index in spread(len(paths), args.images)]
    rows, seen = [], []
    for sigma in SIGMAS:
        figures = []
        for path in paths:
            key = noise_key(0, path.name)
            degradation = get_task("denoise").degradation
            noisy = np.asarray(degradation(key, read_image(path), {"noise": sigma}))
            figures.append((patch_sigma(noisy), noise_sigma(noisy), wavelet_sigma(noisy)))
        patches, estimates, wavelets = np.array(figures).T
        seen.append(round(float(patches.mean()), 2))
        rows.append(
            [
                sigma,
                float(patches.mean()),
                float(estimates.mean()),
                float(np.abs(estimates - sigma).mean()),
                float(np.abs(wavelets - sigma).mean()),
            ]
        )
    print_table(
        ["sigma", "patches show", "estimate", "mean error", "wavelet mean error"],
        rows,
        {"images": len(paths), "true": SIGMAS, "seen": seen},
    )


if __name__ == "__main__":
    with exit_with_sentence():
        main()
