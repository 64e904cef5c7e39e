"""The restoration tasks: for each its degradation, level space and evaluation protocols.

Everything specific to a task is defined here; the commands, the page and training
read it from a `Task` and name none. docs/tutorials/add_a_task.md adds one, step by step.
"""

import dataclasses
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hypernet_jax.axes import BLUR_SIGMA, JPEG_QUALITY, NOISE_SIGMA, SCALE_FACTOR
from hypernet_jax.blind import Estimate, estimate_noise, estimate_photo, estimate_quality
from hypernet_jax.degradations import (
    BLUR,
    CAMERA_JPEG,
    CROPPED_JPEG,
    DOWN_UP,
    JPEG,
    NOISE,
    PHOTO_NOISE,
    QUANTISE,
    SENSOR_NOISE,
    SLIGHT_COMPRESSION,
    SLIGHT_DAMAGE,
    Chain,
)
from hypernet_jax.errors import UserError, check_name, prefixed
from hypernet_jax.images.channels import luminance
from hypernet_jax.levels import PHOTO, Level, LevelSpace
from hypernet_jax.metrics import rgb_to_y
from hypernet_jax.plugins import VARIABLE, load_plugins

__all__ = ["DEFAULT_TASK", "TASKS", "Protocol", "Task", "get_task", "register_task"]

# The task when none is given.
DEFAULT_TASK = "photo"


def _same(image: np.ndarray, level: Level) -> np.ndarray:
    del level
    return image


def _no_shave(level: Level) -> int:
    del level
    return 0


@dataclasses.dataclass(frozen=True)
class Protocol:
    """An evaluation protocol of a task.

    Attributes:
      description: one line for the tables.
      degradation: reference -> degraded.
      reference: (clean uint8 HWC, level) -> reference uint8 HWC.
      luma: measure on the Y channel instead of RGB.
      shave: level -> width in pixels of the border that is not measured.
      blocking: report PSNR-B as well.
    """

    description: str
    degradation: Chain
    reference: Callable[[np.ndarray, Level], np.ndarray] = _same
    luma: bool = False
    shave: Callable[[Level], int] = _no_shave
    blocking: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of restoration.

    Attributes:
      name: its name on the command line and in configs.
      title: its name in tables and figures.
      space: the space of its levels.
      degradation: clean -> degraded, used in training. If JAX cannot trace it, it runs on the
        host, in the input pipeline.
      protocols: evaluation protocols by name; the first is the default.
      levels: the default levels of tables.
      demo_levels: light, medium and strong, for the demo.
      starting_level: the initial position of a slider, and the level of an example.
      estimate: (pixels, source) -> what `estimate_level` returns; None if the level cannot be
        estimated from the image.
      enlarges_by: name of the part of the level by which the image is enlarged (bicubic) before
        the network sees it; None for a task that does not enlarge.
    """

    name: str
    title: str
    space: LevelSpace
    degradation: Chain
    protocols: dict[str, Protocol]
    levels: tuple[Any, ...]
    demo_levels: tuple[Any, Any, Any]
    starting_level: Any
    estimate: Callable[[np.ndarray, Path | None], Estimate] | None = None
    enlarges_by: str | None = None

    def __reduce__(self):
        # Pickled by name: compiled functions and lambdas cannot be pickled.
        known = TASKS.get(self.name)
        if known is None or dataclasses.replace(self, space=known.space) != known:
            return super().__reduce__()
        return _task_of_space, (self.name, self.space)

    @property
    def enlarges(self) -> bool:
        """Whether the image is enlarged before the network sees it."""
        return self.enlarges_by is not None

    def factor(self, level: Level) -> float | None:
        """The factor by which the image is enlarged; None for a task that does not enlarge."""
        return None if self.enlarges_by is None else level[self.enlarges_by]

    def estimate_level(self, pixels: np.ndarray, *, source: Path | None = None) -> Estimate:
        """Estimates how degraded an image is.

        Args:
          pixels: (H, W, C) in 0..255, C = 1 or 3.
          source: the file that the pixels were read from, if any: the quantisation tables of a
            JPEG file give its quality exactly, if it was compressed only once.

        Returns:
          The parts of the level and how they were found.

        Raises:
          UserError: if the task has no estimator, or the level cannot be estimated from the image.
        """
        if self.estimate is None:
            raise UserError(
                f"The level of the task {self.name} cannot be estimated; "
                f"give {self.space.with_article()}."
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


def _task_of_space(name: str, space: LevelSpace) -> Task:
    return dataclasses.replace(get_task(name), space=space)


def _luma_plane(image: np.ndarray, level: Level) -> np.ndarray:
    """The Y plane as an 8-bit grey image."""
    del level
    return image if image.shape[-1] == 1 else rgb_to_y(image).astype(np.uint8)


def _grey(image: np.ndarray, level: Level) -> np.ndarray:
    """The image in greyscale."""
    del level
    return image if image.shape[-1] == 1 else luminance(image)


def _crop_to_multiple(image: np.ndarray, level: Level) -> np.ndarray:
    """Crops to a multiple of an integer scale, as in the literature; else returns it unchanged."""
    scale = level["scale"]
    if not scale.is_integer():
        return image
    height, width = image.shape[:2]
    return image[: height - height % int(scale), : width - width % int(scale)]


def _scale_shave(level: Level) -> int:
    return math.ceil(level["scale"])


_NOISY = Chain(NOISE, QUANTISE)
_COMPRESSED = Chain(QUANTISE, JPEG)
_ENLARGED = Chain(DOWN_UP, QUANTISE)
_BLURRED = Chain(BLUR, QUANTISE)
# In the order of He et al., Interactive Multi-Dimension Modulation (CResMD), ECCV 2020.
_MIXED = Chain(BLUR, QUANTISE, NOISE, QUANTISE, CAMERA_JPEG)

TASKS: dict[str, Task] = {}


def register_task(task: Task) -> None:
    """Makes a task available to all commands and functions under its name.

    Raises:
      UserError: if the name is taken, or the task does not fit together: levels outside the
        space, operators of axes that it lacks, no protocol.
    """
    if not isinstance(task, Task):
        raise UserError(f"{reprlib.repr(task)} is no task; give a Task(...).")
    check_name("A task", task.name)
    if task.name in TASKS:
        raise UserError(f"There is a task {task.name!r} already; choose another name.")
    with prefixed(f"The task {task.name} does not fit together"):
        _check(task)
    TASKS[task.name] = task


def _check(task: Task) -> None:
    """Raises `UserError` for what contradicts itself."""
    space = task.space
    if not isinstance(space, LevelSpace):
        raise UserError("its space is none; write LevelSpace.of(axis, ...).")
    if not isinstance(task.protocols, Mapping) or not task.protocols:
        raise UserError("protocols is a dict with at least one Protocol, for its evaluation.")
    chains = {"degradation": task.degradation}
    for name, protocol in task.protocols.items():
        if not isinstance(protocol, Protocol):
            raise UserError(f"the protocol {name} is no Protocol.")
        chains[f"protocol {name}"] = protocol.degradation
    for name, chain in chains.items():
        if not isinstance(chain, Chain):
            raise UserError(f"its {name} is no chain; write Chain(Operator(function, ...), ...).")
        for axis in chain.axes:
            if axis not in space.names:
                raise UserError(
                    f"its {name} takes the part {axis!r}, but its levels have "
                    f"{', '.join(space.names)}."
                )
    for axis in space.names:
        if axis not in task.degradation.axes:
            raise UserError(f"no operator of its degradation takes the part {axis!r}.")
    for name in ("levels", "demo_levels"):
        levels = getattr(task, name)
        if not isinstance(levels, Sequence) or isinstance(levels, str):
            raise UserError(f"{name} is {levels!r}; give a tuple of levels.")
    if len(task.demo_levels) != 3:
        raise UserError(f"demo_levels has {len(task.demo_levels)} levels; give three.")
    for level in (*task.levels, *task.demo_levels, task.starting_level):
        space.parse(level)
    if task.enlarges_by is not None and task.enlarges_by not in space.names:
        raise UserError(
            f"enlarges_by is {task.enlarges_by!r}, but its levels have {', '.join(space.names)}."
        )


_OWN = (
    Task(
        name="denoise",
        title="Gaussian denoising",
        space=LevelSpace.of(NOISE_SIGMA),
        degradation=_NOISY,
        protocols={
            "8-bit": Protocol("noise added, clipped to 0..255 and rounded; RGB", _NOISY),
            "float": Protocol(
                "noise added, neither clipped nor rounded; RGB",
                Chain(NOISE),
            ),
            "grey": Protocol(
                "made grey, noise added, clipped to 0..255 and rounded",
                _NOISY,
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
        space=LevelSpace.of(JPEG_QUALITY),
        # Crops of JPEG files keep the artefacts, but their corner is inside a block.
        degradation=Chain(QUANTISE, CROPPED_JPEG),
        protocols={
            "colour": Protocol("libjpeg, 4:2:0; RGB", _COMPRESSED, blocking=True),
            "grey": Protocol(
                "BT.601 Y plane compressed as a grey image",
                _COMPRESSED,
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
        space=LevelSpace.of(SCALE_FACTOR),
        degradation=_ENLARGED,
        protocols={
            "y": Protocol(
                "antialiased bicubic down; Y channel, border of the scale shaved",
                _ENLARGED,
                reference=_crop_to_multiple,
                luma=True,
                shave=_scale_shave,
            ),
        },
        levels=(2, 3, 4),
        demo_levels=(2, 3, 4),
        starting_level=2.0,
        enlarges_by="scale",
    ),
    Task(
        name="deblur",
        title="Removal of Gaussian blur",
        space=LevelSpace.of(BLUR_SIGMA),
        degradation=Chain(BLUR, SLIGHT_DAMAGE),
        protocols={
            "8-bit": Protocol("blurred, mirrored at the border, rounded; RGB", _BLURRED),
        },
        levels=(0.5, 1, 2, 3, 4),
        demo_levels=(1, 2, 3),
        starting_level=2.0,
    ),
    Task(
        name="photo",
        title="Photographs as they are",
        space=PHOTO,
        degradation=Chain(BLUR, PHOTO_NOISE, QUANTISE, SLIGHT_COMPRESSION, CAMERA_JPEG),
        protocols={
            "camera": Protocol(
                "blur, camera noise, 8 bits, JPEG 4:2:0; RGB",
                Chain(BLUR, SENSOR_NOISE, QUANTISE, CAMERA_JPEG),
            ),
            "white": Protocol(
                "blur, 8 bits, white noise, 8 bits, JPEG 4:2:0; RGB",
                _MIXED,
            ),
        },
        levels=(
            {"noise": 5},
            {"noise": 15},
            {"noise": 30},
            {"jpeg": 30},
            {"blur": 1},
            {"noise": 10, "jpeg": 60, "blur": 0.7},
        ),
        demo_levels=(
            {"noise": 8},
            {"noise": 15, "jpeg": 60},
            {"noise": 25, "jpeg": 50, "blur": 0.7},
        ),
        starting_level={"noise": 10, "jpeg": 80},
        estimate=estimate_photo,
    ),
    Task(
        name="mixed",
        title="Blur, white noise and JPEG",
        space=LevelSpace.of(BLUR_SIGMA, NOISE_SIGMA, JPEG_QUALITY),
        degradation=_MIXED,
        protocols={
            "8-bit": Protocol("blur, 8 bits, white noise, 8 bits, JPEG 4:2:0; RGB", _MIXED),
        },
        levels=tuple(
            {"blur": blur, "noise": noise, "jpeg": quality}
            for blur in (0, 1, 4)
            for noise in (0, 15, 50)
            for quality in (100, 80, 10)
            if (blur, noise, quality) != (0, 0, 100)
        ),
        demo_levels=(
            {"noise": 15},
            {"blur": 1, "noise": 15, "jpeg": 80},
            {"blur": 1, "noise": 50, "jpeg": 10},
        ),
        starting_level={"noise": 15, "jpeg": 80},
    ),
)
for _task in _OWN:
    register_task(_task)


def get_task(name: str) -> Task:
    """Returns the task called `name`, or raises a `UserError` that lists the tasks."""
    if name not in TASKS:
        load_plugins()  # a process for part of the work has not done so
    if name not in TASKS:
        raise UserError(
            f"Unknown task {name!r}; choose one of {', '.join(TASKS)}, or name the file that "
            f"registers it in the environment variable {VARIABLE}."
        )
    return TASKS[name]
