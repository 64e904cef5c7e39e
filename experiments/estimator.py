"""Trains the level estimator that ships with the task `photo`.

    python experiments/estimator.py DATASET OUT.safetensors

DATASET is made by

    hypernet-jax prepare PHOTOGRAPHS -o DATASET --reduce 2 --size 176 --stride 88 --minimum 150 \\
        --held-out 12

because an estimator that learns from photographs with noise of their own takes such noise for
texture. Two cores take about twenty minutes. Some of the examples are saved as HEIC, which takes
the extra `heif`.
"""

import argparse
import dataclasses
import functools
import io
import sys
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.photo import get_config
from hypernet_jax import get_task
from hypernet_jax.degradations import PHOTO_NOISE, SLIGHT_COMPRESSION, Chain, photo_noise
from hypernet_jax.images.chroma import interpolated_chroma
from hypernet_jax.training.estimator import estimator_examples, train_estimator
from hypernet_jax.training.loop import make_sampler

# Cameras that smooth luminance strongly help to find noise, but not to remove it. Compression that
# the level does not say would blur what a quality is.
SMOOTH = dataclasses.replace(PHOTO_NOISE, function=functools.partial(photo_noise, smooth=0.35))
PHOTO = get_task("photo")
KNOWN = PHOTO.degradation.without(SLIGHT_COMPRESSION)
TASK = dataclasses.replace(
    PHOTO,
    degradation=Chain(*(SMOOTH if each is PHOTO_NOISE else each for each in KNOWN.operators)),
)


def sampler():
    """Levels as in training, but more photographs lack JPEG and fewer blur: no crop is softened, so
    blur also stands for the softness of a camera's own pictures."""
    config = get_config("unet")
    config.levels.absent = (0.12, 0.6, 0.35)
    return make_sampler(config)


def saved(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The pixels (H, W, 3); a fifth of them read back from HEIC or WebP, which smooth noise."""
    if rng.random() >= 0.2:
        return image
    held, form = io.BytesIO(), str(rng.choice(["HEIF", "WEBP"]))
    picture = Image.fromarray(np.asarray(image, np.uint8))
    picture.save(held, form, quality=int(rng.integers(50, 96)))
    pixels = np.asarray(Image.open(held).convert("RGB"))
    return np.float32(interpolated_chroma(pixels) if form == "HEIF" else pixels)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--examples", type=int, default=20_000, help="degraded crops")
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=91)
    options = parser.parse_args()
    if options.output.exists():
        parser.error(f"{options.output} exists; choose another name.")
    pillow_heif.register_heif_opener()
    seen, levels = estimator_examples(
        TASK,
        options.dataset,
        sampler=sampler(),
        count=options.examples,
        seed=options.seed,
        saved=saved,
    )
    errors: dict[str, float] = {}
    made = train_estimator(TASK, seen, levels, steps=options.steps, report=errors.update)
    made.save(options.output)
    print("mean error of z:", ", ".join(f"{name} {each:.3f}" for name, each in errors.items()))


if __name__ == "__main__":
    main()
