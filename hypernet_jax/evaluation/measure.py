"""Evaluates a restorer on a folder of images, under a named protocol."""

import os
import platform
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm

from hypernet_jax.errors import UserError
from hypernet_jax.files import local_path
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.reading import read_image
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.levels import Level
from hypernet_jax.metrics import psnr, psnr_b, rgb_to_y, ssim
from hypernet_jax.runtime import ordinary_arithmetic
from hypernet_jax.tasks import Protocol, Task
from hypernet_jax.version import __version__

__all__ = [
    "about",
    "degraded_pair",
    "evaluate",
    "levels_of",
    "means_of",
    "measure",
    "measured",
    "measured_area",
    "noise_key",
    "reference_of",
    "restore_degraded",
    "versions",
]

# (path, degraded image, level) -> restored image; HWC, 8-bit range.
Restore = Callable[[Path, np.ndarray, Level], np.ndarray]


def noise_key(seed: int, name: str) -> jax.Array:
    """The PRNG key of an image's noise; it depends only on the seed and the name."""
    _check_seed(seed)
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(os.fsencode(name)))


def _check_seed(seed: int) -> None:
    """Raises `UserError` for a seed that is not a whole number from 0 to 2^31 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**31:
        raise UserError(f"The seed {seed!r} is not valid; give a whole number from 0 to 2^31 - 1.")


def restore_degraded(
    restorer: Restorer, degraded: np.ndarray, level: Any, *, path: Path | None = None
) -> np.ndarray:
    """Restores an HWC image in 8-bit range (values may exceed it) to integers from 0 to 255.

    Raises:
      UserError: if a restored pixel is infinite or not a number; names `path`, if given.
    """
    image = np.asarray(degraded, np.float32)[None] / 255.0
    restored = np.asarray(restorer.apply(image, level=level)[0])
    # Before the clipping, which makes infinity white.
    if not np.isfinite(restored).all():
        raise UserError(
            f"The restored {path or 'image'} at the level {level} is not finite, so the weights "
            "are broken; use others."
        )
    return np.clip(np.round(255.0 * restored), 0.0, 255.0)


def measured_area(
    image: np.ndarray, reference: np.ndarray, protocol: Protocol, level: Level
) -> tuple[np.ndarray, np.ndarray]:
    """The channels and pixels that the protocol compares (HWC, 8-bit range).

    A grey image is its own Y plane, as in the scripts of the literature.
    """
    if protocol.luma and reference.shape[-1] == 3:
        image, reference = rgb_to_y(image), rgb_to_y(reference)
    shave = protocol.shave(level)
    if shave and min(reference.shape[:2]) > 2 * shave:
        image, reference = (a[shave:-shave, shave:-shave] for a in (image, reference))
    return image, reference


def measure(
    image: np.ndarray, reference: np.ndarray, protocol: Protocol, level: Level
) -> dict[str, float]:
    """psnr, ssim and, for blocking protocols, psnr_b of one image (HWC, 8-bit range)."""
    image, reference = measured_area(image, reference, protocol, level)
    figures = {"psnr": psnr(image, reference), "ssim": ssim(image, reference)}
    if protocol.blocking:
        figures["psnr_b"] = psnr_b(image, reference)
    return figures


def reference_of(path: Path, protocol: Protocol, level: Level) -> np.ndarray:
    """What the restored image is compared with; uint8 HWC.

    Raises:
      UserError: if the image is too small for the level.
    """
    clean = read_image(path)
    reference = protocol.reference(clean, level)
    if not reference.size:
        raise UserError(
            f"The image {path} ({clean.shape[1]}x{clean.shape[0]} pixels) is too small "
            f"for the level {level}; take it out of the folder."
        )
    return reference


def degraded_pair(
    path: Path, folder: Path, protocol: Protocol, level: Level, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(degraded, reference) of one image of a folder under a protocol; HWC, 8-bit range.

    An image with three channels is degraded and measured in colour, even if they are equal.

    Raises:
      UserError: as `reference_of`.
    """
    reference = reference_of(path, protocol, level)
    key = noise_key(seed, path.relative_to(folder).as_posix())
    return np.asarray(protocol.degradation(key, reference, level.named)), reference


def _figures(
    restore: Restore, path: Path, folder: Path, protocol: Protocol, level: Level, seed: int
) -> dict[str, Any]:
    degraded, reference = degraded_pair(path, folder, protocol, level, seed=seed)
    restored = restore(path, degraded, level)
    before = measure(degraded, reference, protocol, level)
    return {
        "image": path.relative_to(folder).as_posix(),
        **{f"{name}_input": value for name, value in before.items()},
        **measure(restored, reference, protocol, level),
    }


def means_of(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entries of a row of results.json for the figures of its images.

    Args:
      figures: of each image, its name as "image" and numbers. SSIM and dark bias are not a number
        where an image has none, as SSIM of one smaller than its window.

    Returns:
      images, the means, and the figures themselves as "each".
    """
    means = {}
    for name in figures[0]:
        if name != "image":
            values = [one[name] for one in figures]
            if name.startswith(("ssim", "dark_bias")):
                values = [value for value in values if not np.isnan(value)]
            means[name] = float(np.mean(values)) if values else float("nan")
    return {"images": len(figures), **means, "each": list(figures)}


def about(restorer: Restorer) -> dict[str, Any]:
    """What results.json says about the restorer and the machine."""
    return {
        "self_ensemble": restorer.self_ensemble,
        "weights": restorer.model.fingerprint(restorer.theta),
        "backend": restorer.backend.name,
        "hardware": f"{jax.devices()[0].device_kind} ({platform.machine()})",
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What results.json says about the programs that measured."""
    return {
        "hypernet_jax": __version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def levels_of(task: Task, levels: Any) -> list[Level]:
    """The levels of an evaluation, each once.

    Args:
      task: the task.
      levels: several as `LevelSpace.parse` takes them, text as for `parse_list`, or one; if empty,
        the task's levels, or the only one of a plain network.
    """
    default = task.levels if task.space.only is None else (task.space.only,)
    return list(dict.fromkeys(map(task.space.parse, task.space.separated(levels) or default)))


def measured(
    task: Task,
    restore: Restore,
    dataset: str | Path,
    *,
    levels: Any,
    protocol: str | None,
    seed: int,
    progress: bool,
) -> dict[str, Any]:
    """`evaluate` with any function that restores; the content of results.json, without `about`."""
    name, rule = task.protocol(protocol)
    checked = levels_of(task, levels)
    folder = local_path(dataset)
    paths = find_images(folder)
    _check_seed(seed)
    # A damaged image must not cost hours of measuring.
    for path in paths:
        read_image(path)
    rows = []
    total = len(checked) * len(paths)
    # disable=None shows the bar only on a terminal.
    with tqdm.tqdm(total=total, unit="image", disable=None if progress else True) as bar:
        for level in checked:
            figures = []
            for path in paths:
                figures.append(_figures(restore, path, folder, rule, level, seed))
                bar.update()
            rows.append({"level": level.plain(), **means_of(figures)})
    return {
        "dataset": folder.resolve().name,
        "task": task.name,
        "protocol": name,
        "protocol_description": rule.description,
        "level": task.space.measured(),
        "seed": seed,
        "rows": rows,
    }


@ordinary_arithmetic()
def evaluate(
    restorer: Restorer,
    dataset: str | Path,
    *,
    levels: Sequence[Any] = (),
    protocol: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Degrades, restores and measures every image of a folder at every level.

    Args:
      restorer: the restorer to evaluate.
      dataset: a folder of clean images of any size, colour or grey.
      levels: as `levels_of` takes them.
      protocol: name of one of the task's protocols; None: the first.
      seed: seed of the noise.
      progress: draw a progress bar.

    Returns:
      The content of results.json, in which each row is the mean over images at one level, and
      holds the figures of each image.
    """

    def restore(path: Path, degraded: np.ndarray, level: Level) -> np.ndarray:
        return restore_degraded(restorer, degraded, level, path=path)

    results = measured(
        restorer.model.task,
        restore,
        dataset,
        levels=levels,
        protocol=protocol,
        seed=seed,
        progress=progress,
    )
    return results | about(restorer)
