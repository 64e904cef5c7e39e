"""Measures the figures of docs/results/photographs.md that no other command gives.

    python experiments/photographs.py clean FOLDER        # effect of `auto` on clean photographs
    python experiments/photographs.py estimates FOLDER    # estimation errors, synthetic damage
    python experiments/photographs.py estimates FOLDER --saved   # half of them saved by a camera
    python experiments/photographs.py blurred FOLDER      # what `auto` does to blurred photographs
    python experiments/photographs.py pictures FOLDER... -o SHEET.png  # before and after

FOLDER holds clean photographs, such as Kodak24 (clean, estimates, blurred), or noisy ones
(pictures).
"""

import argparse
import io
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from hypernet_jax import Restorer, get_task
from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.degradations import SLIGHT_COMPRESSION
from hypernet_jax.evaluation.measure import noise_key
from hypernet_jax.files import check_output, write_atomically
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.reading import read_image
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.metrics import psnr

TASK = get_task("photo")
NOISE, QUALITY, BLUR = (3, 5, 10, 20, 40), (30, 60, 90), (0.5, 1.0, 2.0)
BLURRED = (1.0, 1.5, 2.0, 3.0)
_SIDE = 320
KEY = jax.random.key(0)  # of degradations that draw nothing


def clean(weights: str, folder: Path) -> None:
    """PSNR of clean photographs restored at their estimated level."""
    restorer = Restorer.from_pretrained(weights)
    figures, levels = [], []
    for path in find_images(folder):
        pixels = read_image(path)
        level, _ = resolve_level(TASK, "auto", pixels, path)
        figures.append(psnr(restorer.restore(pixels, level=level), pixels))
        levels.append(level.values)
    found = ", ".join(
        f"{name} {value:.2f}"
        for name, value in zip(TASK.space.names, np.median(levels, axis=0), strict=True)
    )
    print(
        f"{len(figures)} photographs: mean {np.mean(figures):.2f} dB, least {min(figures):.2f} dB"
    )
    print(f"median of the levels found: {found}")


def estimates(folder: Path, *, saved: bool) -> None:
    """Mean estimation error of each part, for single parts and for all together.

    Args:
      folder: clean photographs.
      saved: half of the noisy ones are slightly compressed, which the level does not say.
    """
    chain = TASK.degradation if saved else TASK.degradation.without(SLIGHT_COMPRESSION)
    cases = [{"noise": value} for value in NOISE]
    cases += [{"jpeg": value} for value in QUALITY] + [{"blur": value} for value in BLUR]
    cases += [{"noise": n, "jpeg": q, "blur": b} for n, q, b in ((5, 80, 0.5), (15, 60, 1.0))]
    print("| level | found (median) | mean error of noise | of quality | of blur |")
    print("| --- | --- | ---: | ---: | ---: |")
    for case in cases:
        level = TASK.space.parse(case)
        found = []
        for index, path in enumerate(find_images(folder)):
            key = jax.random.fold_in(noise_key(0, path.stem), index)
            degraded = np.asarray(chain(key, read_image(path), level.named))
            # From the pixels alone: the file does not have this degradation.
            made, _ = resolve_level(TASK, "auto", degraded.astype(np.uint8), None)
            found.append(made.values)
        errors = np.abs(np.asarray(found) - level.values).mean(axis=0)
        median = TASK.space.parse(tuple(np.median(found, axis=0).tolist()))
        noise = f"{errors[0]:.2f}"
        if level["noise"]:
            noise += f" ({100 * errors[0] / level['noise']:.0f} %)"
        others = f"{errors[1]:.1f} | {errors[2]:.2f}"
        print(f"| {level} | {median.describe(digits=3)} | {noise} | {others} |")


def blurred(weights: str, folder: Path) -> None:
    """PSNR of blurred photographs before and after, at the estimated and at the known level."""
    restorer = Restorer.from_pretrained(weights)
    print("| blur sigma | found (median) | input, dB | `auto`, dB | known level, dB |")
    print("| --- | --- | ---: | ---: | ---: |")
    for sigma in BLURRED:
        known = TASK.space.parse({"blur": sigma})
        rows = []
        for path in find_images(folder):
            clean = read_image(path)
            degraded = np.asarray(TASK.degradation(KEY, clean, known.named)).astype(np.uint8)
            found, _ = resolve_level(TASK, "auto", degraded, None)
            made = [restorer.restore(degraded, level=level) for level in (found, known)]
            rows.append((found["blur"], *(psnr(each, clean) for each in (degraded, *made))))
        figures = " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)[1:])
        print(f"| {sigma:g} | {np.median(rows, axis=0)[0]:.2f} | {figures} |")


def pictures(weights: str, folders: list[Path], output: Path) -> None:
    """The middle of each photograph before and after, at full resolution."""
    restorer = Restorer.from_pretrained(weights)
    rows = []
    for path in (path for folder in folders for path in find_images(folder)):
        pixels = read_image(path)
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        level, _ = resolve_level(TASK, "auto", pixels, path)
        top, left = (max(0, length - _SIDE) // 2 for length in pixels.shape[:2])
        part = np.s_[top : top + _SIDE, left : left + _SIDE]
        pair = np.hstack(
            [pixels[part], restorer.restore(np.ascontiguousarray(pixels), level=level)[part]]
        )
        canvas = np.zeros((_SIDE, 2 * _SIDE, 3), np.uint8)
        canvas[: pair.shape[0], : pair.shape[1]] = pair
        rows.append(canvas)
        print(path.name, level.describe(digits=3))
    sheet = [np.vstack(rows[start::2]) for start in range(min(2, len(rows)))]
    height = max(len(column) for column in sheet)
    sheet = [np.pad(column, ((0, height - len(column)), (0, 8), (0, 0))) for column in sheet]
    content = io.BytesIO()
    Image.fromarray(np.hstack(sheet)).save(content, "PNG")
    write_atomically(output, content.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["clean", "estimates", "blurred", "pictures"])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--weights", default="photo")
    parser.add_argument("-o", "--output", type=Path, help="with pictures, a new .png")
    parser.add_argument("--saved", action="store_true", help="with estimates, see above")
    args = parser.parse_args()
    if args.what == "pictures":
        if args.output is None:
            parser.error("give -o, the sheet")
        check_output(args.output, overwrite=False)
        pictures(args.weights, args.folders, args.output)
    elif args.what == "clean":
        clean(args.weights, args.folders[0])
    elif args.what == "blurred":
        blurred(args.weights, args.folders[0])
    else:
        estimates(args.folders[0], saved=args.saved)


if __name__ == "__main__":
    with exit_with_sentence():
        main()
