"""Evaluates other programs: writes the degraded images, and measures what was made of them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from PIL import Image

from hypernet_jax.degradations import bicubic_resize
from hypernet_jax.errors import UserError
from hypernet_jax.evaluation.measure import degraded_pair, levels_of, measured, versions
from hypernet_jax.files import already_exists, ensure_folder, local_path, write_atomically
from hypernet_jax.images.folders import images_by_name
from hypernet_jax.images.reading import read_image
from hypernet_jax.levels import Level
from hypernet_jax.tasks import Task

__all__ = ["evaluate_results", "write_inputs"]


def write_inputs(
    task: Task,
    dataset: str | Path,
    output: str | Path,
    *,
    levels: Any = (),
    protocol: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Writes the images that `evaluate` restores, as PNG files OUTPUT/LEVEL/NAME.png.

    Args:
      task: of which network the images are the inputs; for a task that enlarges they are small.
      dataset, levels, protocol, seed, progress: as for `evaluate`.
      output: a folder; made if it is missing.
      overwrite: replace files that exist.

    Returns:
      The folders, one for each level.

    Raises:
      UserError: also if a file exists, unless `overwrite`, before any is written, or if the
        protocol's images do not have 8 bits.
    """
    _, rule = task.protocol(protocol)
    folder, place = local_path(dataset), local_path(output)
    images = images_by_name(folder)
    if place.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"The folder {output} lies among the images in {dataset}, where its images would be "
            "taken for clean ones; choose another."
        )
    checked = levels_of(task, levels)
    targets = {(name, level): _file(place, level, name) for level in checked for name in images}
    for target in targets.values():
        if target.exists() and not overwrite:
            raise already_exists(target)
    for (name, level), target in tqdm.tqdm(
        targets.items(), unit="image", disable=None if progress else True
    ):
        degraded, reference = degraded_pair(images[name], folder, rule, level, seed=seed)
        factor = task.factor(level)
        if factor is not None:
            degraded = bicubic_resize(reference, 1.0 / factor)
        stored = np.clip(np.round(degraded), 0.0, 255.0).astype(np.uint8)
        if factor is None and not np.array_equal(stored, degraded):
            raise UserError(
                f"The images of this protocol ({rule.description}) have more than 8 bits; choose "
                "another one of the task's protocols."
            )
        ensure_folder(target.parent)
        content = io.BytesIO()
        Image.fromarray(stored[..., 0] if stored.shape[-1] == 1 else stored).save(content, "PNG")
        write_atomically(target, content.getvalue(), overwrite=overwrite)
    return [place / str(level) for level in checked]


def evaluate_results(
    task: Task,
    dataset: str | Path,
    results: str | Path,
    *,
    levels: Any = (),
    protocol: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures images that any program restored, as `evaluate` measures those of a restorer.

    Args:
      task: whose protocol measures them.
      dataset: the folder of clean images.
      results: a folder with the results as RESULTS/LEVEL/NAME, named as by `write_inputs`; any
        image format that is lossless.
      levels, protocol, seed, progress: as for `evaluate`.

    Returns:
      The content of results.json, without entries on a restorer.

    Raises:
      UserError: also if a result is missing or has another size than the clean image; before
        anything is measured.
    """
    folder, place = local_path(dataset), local_path(results)
    _, rule = task.protocol(protocol)
    images = images_by_name(folder)
    found: dict[tuple[Path, Level], Path] = {}
    for level in levels_of(task, levels):
        restored = images_by_name(place / str(level))
        for name, path in images.items():
            if name not in restored:
                raise UserError(
                    f"{place / str(level)} has no image {name}; give one for each in {folder}."
                )
            there = read_image(restored[name]).shape
            expected = rule.reference(read_image(path), level).shape
            if there != expected:
                raise UserError(
                    f"{restored[name]} has (height, width, channels) {there}, but {path} is "
                    f"measured as {expected}; give the results in that size."
                )
            found[path, level] = restored[name]

    def restore(path: Path, degraded: np.ndarray, level: Level) -> np.ndarray:
        del degraded
        return read_image(found[path, level]).astype(np.float32)

    made = measured(
        task, restore, folder, levels=levels, protocol=protocol, seed=seed, progress=progress
    )
    return made | {"versions": versions()}


def _file(folder: Path, level: Level, name: str) -> Path:
    return folder / str(level) / f"{name}.png"
