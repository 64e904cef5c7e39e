"""Trains the level estimator that ships with the task `photo`.

    python experiments/estimator.py DATASET OUT.safetensors

DATASET is made by

    hypernet-jax prepare PHOTOGRAPHS -o DATASET --reduce 2 --size 176 --stride 88 --minimum 150 \\
        --held-out 12

because an estimator that learns from photographs with noise of their own takes such noise for
texture. Two cores take about half an hour. Some of the examples are saved as HEIC, which takes
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
from hypernet_jax import Task, get_task
from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.degradations import PHOTO_NOISE, SLIGHT_COMPRESSION, Chain, photo_noise
from hypernet_jax.files import check_output
from hypernet_jax.images.chroma import interpolated_chroma
from hypernet_jax.training.estimator import averaged, estimator_examples, train_estimator
from hypernet_jax.training.loop import make_sampler

PHOTO = get_task("photo")
# Compression that the level does not say would blur what a quality is.
KNOWN = PHOTO.degradation.without(SLIGHT_COMPRESSION)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One of the networks that are averaged; it also learns from the examples of those before.

    Attributes:
      examples: number of new examples, a multiple of 16.
      coarse: share of the cameras that leave little and coarse noise of colours.
      steps: number of training steps.
    """

    examples: int
    coarse: float
    steps: int


STAGES = (Stage(30_000, 0.25, 7_000), Stage(24_000, 0.1, 9_000))


def task_with(coarse: float) -> Task:
    """The task, with cameras that smooth luminance strongly, or leave little noise of colours.

    They help to find noise, but not to remove it.
    """
    function = functools.partial(photo_noise, smooth=0.35, coarse=coarse)
    reduced = dataclasses.replace(PHOTO_NOISE, function=function)
    operators = (reduced if each is PHOTO_NOISE else each for each in KNOWN.operators)
    return dataclasses.replace(PHOTO, degradation=Chain(*operators))


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
    parser.add_argument("--seed", type=int, default=91, help="of the first stage's examples")
    options = parser.parse_args()
    check_output(options.output, overwrite=False)
    pillow_heif.register_heif_opener()
    seen, levels, made = [], [], []
    for number, stage in enumerate(STAGES):
        task = task_with(stage.coarse)
        new = estimator_examples(
            task,
            options.dataset,
            sampler=sampler(),
            count=stage.examples,
            seed=options.seed + number,
            saved=saved,
        )
        seen.append(new[0])
        levels.append(new[1])
        errors: dict[str, float] = {}
        network = train_estimator(
            task,
            np.concatenate(seen),
            np.concatenate(levels),
            steps=stage.steps,
            report=errors.update,
        )
        made.append(network)
        print("mean error of z:", ", ".join(f"{name} {each:.3f}" for name, each in errors.items()))
    averaged(made).save(options.output)


if __name__ == "__main__":
    with exit_with_sentence():
        main()
