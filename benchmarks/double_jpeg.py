"""Restores images that were compressed twice, at the last quality and at lower levels.

    python benchmarks/double_jpeg.py FOLDER [--pairs 10:90 50:75] [--factors 0.75 0.5] [--images 29]

Each image of the folder is saved at quality q1 and then at q2: without a crop in between (shift
0), and with 4 rows and columns cropped in between (shift 4), so that the block grids differ. It
is restored at q2, the quality in the file's tables; at the lower of q1 and q2; and at levels
below that, as chosen by hand. PSNR in dB, mean over images, in RGB or, with --grey, of the BT.601
Y plane compressed as a grey image. Last line: JSON.
"""

import argparse
from pathlib import Path

import numpy as np
from timing import print_table

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.degradations import jpeg
from hypernet_jax.evaluation.measure import restore_degraded
from hypernet_jax.images.folders import find_images, spread
from hypernet_jax.images.reading import read_image
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.metrics import psnr

# Lower quality first or last, far apart or close together.
PAIRS = ("10:90", "30:90", "50:75", "75:75", "90:30", "40:20")


def compressed_twice(
    clean: np.ndarray, first: float, second: float, shift: int
) -> tuple[np.ndarray, np.ndarray]:
    """The image after both compressions, and the matching part of the clean image."""
    once = jpeg(None, clean, first)[shift:, shift:]
    return jpeg(None, once, second), clean[shift:, shift:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--weights", default="dejpeg")
    parser.add_argument("--pairs", nargs="+", default=PAIRS, help="qualities q1:q2")
    parser.add_argument(
        "--factors", nargs="+", type=float, default=(0.75, 0.5), help="of the lower quality"
    )
    parser.add_argument("--shifts", nargs="+", type=int, default=(0, 4))
    parser.add_argument("--images", type=int, default=29, help="number, spread over the folder")
    parser.add_argument("--grey", action="store_true", help="the protocol `grey` of dejpeg")
    args = parser.parse_args()
    restorer = Restorer.from_pretrained(args.weights)
    task = restorer.model.task
    _, protocol = task.protocol("grey" if args.grey else "colour")
    paths = find_images(Path(args.folder))
    chosen = [paths[index] for index in spread(len(paths), args.images)]
    images = [protocol.reference(read_image(path), task.space.neutral) for path in chosen]
    axis, (rows, results) = task.space.single, ([], [])
    for pair in args.pairs:
        first, second = (axis.valid(quality) for quality in pair.split(":"))
        worst = min(first, second)
        lowered = [max(axis.low, factor * worst) for factor in args.factors]
        for shift in args.shifts:
            before, after = [], {level: [] for level in (second, worst, *lowered)}
            for image in images:
                degraded, clean = compressed_twice(image, first, second, shift)
                before.append(psnr(degraded, clean))
                for level, figures in after.items():
                    figures.append(psnr(restore_degraded(restorer, degraded, level), clean))
            means = {level: float(np.mean(figures)) for level, figures in after.items()}
            best = max(means, key=means.__getitem__)
            result = {"q1": first, "q2": second, "shift": shift, "input": float(np.mean(before))}
            results.append(result | {"restored": means})
            rows.append(
                [f"{first:g}", f"{second:g}", shift, f"{result['input']:.2f}"]
                + [f"{means[level]:.2f} ({level:g})" for level in (second, worst, *lowered)]
                + [f"{best:g}", f"{means[best] - means[second]:+.2f}"]
            )
    print_table(
        ["q1", "q2", "shift", "input", "at q2", "at the lower"]
        + [f"at {factor:g} of it" for factor in args.factors]
        + ["best level", "over q2"],
        rows,
        {
            "weights": args.weights,
            "protocol": "grey" if args.grey else "colour",
            "images": len(images),
            "results": results,
        },
    )


if __name__ == "__main__":
    with exit_with_sentence():
        main()
