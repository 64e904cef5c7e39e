"""The restoration tasks: each a degradation, a level scale and how it is measured.

All that tells one task from another stands here; the commands, the page and training
take it from a `Task` and name none. docs/new_task.md adds one, step by step.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hypernet_jax import degradations
from hypernet_jax.blind import Estimate, estimate_noise, estimate_quality
from hypernet_jax.errors import UserError
from hypernet_jax.levels import BLUR_SIGMA, JPEG_QUALITY, NOISE_SIGMA, SCALE_FACTOR, LevelScale
from hypernet_jax.metrics import luminance, rgb_to_y

__all__ = ["TASKS", "Protocol", "Task", "get_task"]

Degrade = Callable[[Any, Any, Any], Any]


def _same(image: np.ndarray, level: float) -> np.ndarray:
    del level
    return image


def _no_shave(level: float) -> int:
    del level
    return 0


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a task's figures are made.

    Attributes:
      description: one line for the tables.
      degrade: (key, reference, level) -> degraded, 8-bit range.
      reference: (clean uint8 HWC, level) -> reference uint8 HWC.
      luma: measure on the Y channel instead of RGB.
      shave: level -> border pixels left out of the measurement.
      blocking: report PSNR-B as well.
    """

    description: str
    degrade: Degrade
    reference: Callable[[np.ndarray, float], np.ndarray] = _same
    luma: bool = False
    shave: Callable[[float], int] = _no_shave
    blocking: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of restoration.

    Attributes:
      name: its name on the command line and in configs.
      title: its name in tables and figures.
      scale: the meaning of its level.
      degrade: (key, image, level) -> degraded, 8-bit range, used in training.
      on_device: whether `degrade` is traceable by JAX; if not it runs in the
        input pipeline, on the host.
      enlarges: the level is a factor by which the image is enlarged (bicubic)
        before the network sees it.
      protocols: ways to measure; the first is the default.
      levels: levels that tables show unless told otherwise.
      demo_levels: light, medium and strong, for the demo.
      starting_level: where a slider starts, and what an example is degraded to.
      estimate: (pixels, source) -> level, as in `estimate_level`; None where it cannot be
        told from the image.
    """

    name: str
    title: str
    scale: LevelScale
    degrade: Degrade
    on_device: bool
    protocols: dict[str, Protocol]
    levels: tuple[float, ...]
    demo_levels: tuple[float, float, float]
    starting_level: float
    estimate: Callable[[np.ndarray, Path | None], Estimate] | None = None
    enlarges: bool = False

    def __reduce__(self):
        # By name: functions that are compiled, or have no name, cannot be pickled.
        known = TASKS.get(self.name)
        if known is None or dataclasses.replace(self, scale=known.scale) != known:
            return super().__reduce__()
        return _task_of_scale, (self.name, self.scale)

    def network_input(self, image: np.ndarray, level: float) -> np.ndarray:
        """What the network is given for a user's image (HWC, 8-bit range); float32 or as it is."""
        if not self.enlarges:
            return image
        height, width = image.shape[:2]
        size = (max(1, round(height * level)), max(1, round(width * level)))
        return np.clip(np.round(degradations.bicubic_resize(image, level, size=size)), 0, 255)

    def estimate_level(self, pixels: np.ndarray, *, source: Path | None = None) -> Estimate:
        """Estimates how degraded an image is.

        Args:
          pixels: (H, W, C) in 0..255, C = 1 or 3.
          source: the file that the pixels are from, if any: a JPEG file's own tables say its
            quality exactly, provided that it was compressed once.

        Returns:
          The level and how it was found.

        Raises:
          UserError: if the task has no estimator, or the image does not show its level.
        """
        if self.estimate is None:
            raise UserError(
                f"The level of the task {self.name} cannot be estimated; "
                f"give a {self.scale.describe()}."
            )
        return self.estimate(pixels, source)

    def protocol(self, name: str | None) -> tuple[str, Protocol]:
        """Returns (name, protocol); the default one if `name` is empty."""
        name = name or next(iter(self.protocols))
        if name not in self.protocols:
            raise UserError(
                f"The task {self.name} has no protocol {name!r}; "
                f"choose one of {', '.join(self.protocols)}."
            )
        return name, self.protocols[name]


def _task_of_scale(name: str, scale: LevelScale) -> Task:
    return dataclasses.replace(TASKS[name], scale=scale)


def _luma_plane(image: np.ndarray, level: float) -> np.ndarray:
    """The Y plane as an 8-bit grey image."""
    del level
    return image if image.shape[-1] == 1 else rgb_to_y(image).astype(np.uint8)


def _grey(image: np.ndarray, level: float) -> np.ndarray:
    """The image as a grey one."""
    del level
    return image if image.shape[-1] == 1 else luminance(image)


def _crop_to_multiple(image: np.ndarray, level: float) -> np.ndarray:
    """Crops to a multiple of an integer scale, as the literature does; fractional: as it is."""
    if not float(level).is_integer():
        return image
    height, width = image.shape[:2]
    return image[: height - height % int(level), : width - width % int(level)]


TASKS = {
    task.name: task
    for task in (
        Task(
            name="denoise",
            title="Gaussian denoising",
            scale=NOISE_SIGMA,
            degrade=degradations.gaussian_noise,
            on_device=True,
            protocols={
                "8-bit": Protocol(
                    "noise added, clipped to 0..255 and rounded; RGB", degradations.gaussian_noise
                ),
                "float": Protocol(
                    "noise added, neither clipped nor rounded; RGB",
                    degradations.gaussian_noise_float,
                ),
                "grey": Protocol(
                    "made grey, noise added, clipped to 0..255 and rounded",
                    degradations.gaussian_noise,
                    reference=_grey,
                ),
            },
            levels=(5, 15, 25, 35, 50, 75),
            demo_levels=(15, 25, 50),
            starting_level=25.0,
            estimate=estimate_noise,
        ),
        Task(
            name="dejpeg",
            title="JPEG artefact removal",
            scale=JPEG_QUALITY,
            degrade=degradations.jpeg,
            on_device=False,
            protocols={
                "colour": Protocol("libjpeg, 4:2:0; RGB", degradations.jpeg, blocking=True),
                "grey": Protocol(
                    "BT.601 Y plane compressed as a grey image",
                    degradations.jpeg,
                    reference=_luma_plane,
                    blocking=True,
                ),
            },
            levels=(10, 20, 30, 40),
            demo_levels=(40, 20, 10),
            starting_level=20.0,
            estimate=estimate_quality,
        ),
        Task(
            name="sr",
            title="Super-resolution",
            scale=SCALE_FACTOR,
            degrade=degradations.bicubic_down_up,
            on_device=False,
            protocols={
                "y": Protocol(
                    "antialiased bicubic down; Y channel, border of the scale shaved",
                    degradations.bicubic_down_up,
                    reference=_crop_to_multiple,
                    luma=True,
                    shave=lambda level: int(np.ceil(level)),
                ),
            },
            levels=(2, 3, 4),
            demo_levels=(2, 3, 4),
            starting_level=2.0,
            enlarges=True,
        ),
        Task(
            name="deblur",
            title="Removal of Gaussian blur",
            scale=BLUR_SIGMA,
            degrade=degradations.gaussian_blur,
            on_device=True,
            protocols={
                "8-bit": Protocol(
                    "blurred, mirrored at the border, rounded; RGB", degradations.gaussian_blur
                ),
            },
            levels=(0.5, 1, 2, 3, 4),
            demo_levels=(1, 2, 3),
            starting_level=2.0,
        ),
    )
}


def get_task(name: str) -> Task:
    """Returns the task called `name`, or raises `UserError` naming those there are."""
    if name not in TASKS:
        raise UserError(f"Unknown task {name!r}; choose one of {', '.join(TASKS)}.")
    return TASKS[name]
