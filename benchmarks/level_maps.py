"""Times restoration with a level for every pixel, compared with one level for all.

    python benchmarks/level_maps.py --size 480 320 --rounds 5
    python benchmarks/level_maps.py --size 4000 3000 --rounds 1

Ratios are to one level on the same backend. "smooth" has a different level at every pixel; "a
spot" is neutral except on a disc of a tenth of the area. "seen" is the page's 300x300 window.
"""

import argparse

import numpy as np
import skimage.data
from PIL import Image
from timing import interleave, print_table

from hypernet_jax import Restorer, load_weights


def _spot(height: int, width: int) -> np.ndarray:
    down, across = np.ogrid[:height, :width]
    radius = np.sqrt(0.1 * height * width / np.pi)
    inside = (down - height / 2) ** 2 + (across - width / 2) ** 2 < radius**2
    return inside.astype(np.float32)


def main() -> None:
    """Prints seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="denoise", help="a name or a .safetensors file")
    parser.add_argument("--size", type=int, nargs=2, default=[480, 320], metavar=("W", "H"))
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    model, theta = load_weights(args.weights)
    width, height = args.size
    image = np.asarray(Image.fromarray(skimage.data.coffee()).resize((width, height)))
    space = model.task.space
    level = space.parse(model.task.starting_level)
    slope = np.linspace(0.5, 1.0, width, dtype=np.float32) * np.ones((height, 1), np.float32)
    neutral = np.array([axis.neutral for axis in space.axes], np.float32)
    smooth, spot = (
        neutral + share[..., None] * (level.array - neutral)
        for share in (slope, _spot(height, width))
    )
    contenders = {}
    for backend in ("onnxruntime", "jax"):
        restorer = Restorer(model, theta, backend=backend)
        window = np.s_[: min(300, height), : min(300, width)]
        for name, asked in (("one level", level), ("smooth", smooth), ("a spot", spot)):
            for part, options in (("", {}), (", seen", {"window": window, "margin": 16})):
                contenders[f"{backend}, {name}{part}"] = (
                    lambda restorer=restorer, asked=asked, options=options: restorer.restore(
                        image, level=asked, **options
                    )
                )
    seconds = interleave(contenders, rounds=args.rounds)
    rows = []
    for name, time in seconds.items():
        backend, _, *part = name.split(", ")
        alone = seconds[", ".join((backend, "one level", *part))]
        rows.append([name, time, time / alone])
    summary = {"benchmark": "level_maps", "weights": args.weights, "size": args.size} | {
        name: round(time, 4) for name, time in seconds.items()
    }
    print_table(["", "seconds", "of one level's time"], rows, summary)


if __name__ == "__main__":
    main()
