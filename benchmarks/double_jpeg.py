"""What dejpeg gives for images that were compressed twice, and what a lower level gives.

    python benchmarks/double_jpeg.py FOLDER [--pairs 10:90 50:75] [--factors 0.75 0.5] [--images 29]

Each image of the folder is saved at quality q1 and then at q2: with its corner where it was
(shift 0), and after cropping 4 rows and columns between the two (shift 4), so that the blocks of
the first are not those of the second. Restored with q2, which is what the file's tables say; with
the lower of q1 and q2; and with levels below that, as one would choose by hand. PSNR in dB, mean
over images: RGB or, with --grey, the BT.601 Y plane compressed as a grey image. Last line: JSON.
"""

import argparse
from pathlib import Path

import numpy as np
from timing import print_table

from hypernet_jax.degradations import jpeg
from hypernet_jax.images.folders import find_images, spread
from hypernet_jax.images.reading import read_image
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.metrics import psnr

# The lower quality first, then last; far apart and close together.
PAIRS = ("10:90", "30:90", "50:75", "75:75", "90:30", "40:20")


def compressed_twice(
    clean: np.ndarray, first: float, second: float, shift: int
) -> tuple[np.ndarray, np.ndarray]:
    """The image after both compressions, and the part of the clean one that it shows."""
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
    parser.add_argument("--images", type=int, default=29, help="spread over the folder")
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
                    figures.append(psnr(restorer.restore(degraded, level=level), clean))
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
    main()
