"""Measures the statistics of simulated camera noise on flat mid-grey.

    python benchmarks/camera_noise.py [--level 5] [--cameras 400] [--seed 0]

Deviation of red, green and blue; correlation of each with the next pixel; correlation of Cb with
the pixel 1, 2 and 4 away; correlation between red and green. Last line: JSON.
"""

import argparse

import jax
import numpy as np
from timing import print_table

from hypernet_jax.degradations import camera_noise

CB = np.array([-0.1687, -0.3313, 0.5])


def correlation(planes: np.ndarray, distance: int) -> float:
    """Correlation of (N, H, W), whose mean is zero, with the pixel `distance` to the right."""
    product = planes[:, :, distance:] * planes[:, :, :-distance]
    return float(product.mean() / np.square(planes).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--level", type=float, default=5.0)
    parser.add_argument("--cameras", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    flat = np.full((args.cameras, 80, 80, 3), 127.5, np.float32)
    noise = np.asarray(jax.jit(camera_noise)(jax.random.key(args.seed), flat, args.level)) - flat
    noise -= noise.mean(axis=(1, 2), keepdims=True)
    colours = np.moveaxis(noise, -1, 0)
    figures = {
        "deviation R/G/B": [colour.std() for colour in colours],
        "lag 1 R/G/B": [correlation(colour, 1) for colour in colours],
        "Cb lag 1/2/4": [correlation(noise @ CB, distance) for distance in (1, 2, 4)],
        "red, green": [np.corrcoef(colours[0].ravel(), colours[1].ravel())[0, 1]],
    }
    rows = [[name, " ".join(f"{value:.2f}" for value in row)] for name, row in figures.items()]
    print_table(["", "simulated"], rows, {"level": args.level, "cameras": args.cameras})


if __name__ == "__main__":
    main()
