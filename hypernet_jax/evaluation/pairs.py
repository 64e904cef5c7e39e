"""Evaluates a restorer on real pairs of noisy and clean photographs of the same scenes."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm

from hypernet_jax.errors import UserError
from hypernet_jax.evaluation.measure import restore_degraded
from hypernet_jax.files import local_path
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.reading import read_image
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.levels import Level
from hypernet_jax.metrics import psnr, ssim
from hypernet_jax.runtime import ordinary_arithmetic

__all__ = ["DARK", "evaluate_pairs"]

# Pixels with a clean value below this are dark; the column "dark bias" is for them.
DARK = 32


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """(noisy, clean) files of the same name, up to the suffix, in the two folders in `folder`."""

    def by_stem(name: str) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for path in find_images(folder / name):
            if path.stem in found:
                raise UserError(
                    f"{folder / name} has two images {path.stem}, {found[path.stem].name} and "
                    f"{path.name}; remove one."
                )
            found[path.stem] = path
        return found

    noisy, clean = by_stem("noisy"), by_stem("clean")
    if noisy.keys() != clean.keys():
        odd = sorted(noisy.keys() ^ clean.keys())[0]
        raise UserError(
            f"In {folder} only one of noisy and clean has an image {odd}; add or remove one."
        )
    return [(noisy[name], clean[name]) for name in sorted(noisy)]


def _figures(restored: np.ndarray, clean: np.ndarray) -> dict[str, float]:
    dark = clean < DARK
    error = restored.astype(np.float64) - clean
    return {
        "psnr": psnr(restored, clean),
        "ssim": ssim(restored, clean),
        "dark_bias": float(error[dark].mean()) if dark.any() else float("nan"),
    }


@ordinary_arithmetic()
def evaluate_pairs(
    restorer: Restorer, folder: str | Path, *, levels: Sequence[Any] = ("auto",)
) -> dict[str, Any]:
    """Restores the noisy photographs of a folder at each level and compares them with clean ones.

    Args:
      restorer: the restorer to evaluate.
      folder: contains the folders noisy and clean, with images of the same names.
      levels: as `LevelSpace.request` takes them.

    Returns:
      The content of results.json: for each level the means over pairs of PSNR and SSIM in 8-bit
      RGB, and of the mean error of pixels with a clean value below `DARK`.
    """
    task, rows = restorer.model.task, []
    folder = local_path(folder)
    pairs = _pairs(folder)
    for request in map(task.space.request, levels):
        figures, used = [], []
        for noisy_path, clean_path in tqdm.tqdm(pairs, unit="image", disable=None):
            noisy, clean = read_image(noisy_path), read_image(clean_path)
            level, _ = resolve_level(task, request, noisy, noisy_path)
            restored = restore_degraded(restorer, noisy, level)
            before = {f"{name}_input": value for name, value in _figures(noisy, clean).items()}
            figures.append(before | _figures(restored, clean))
            used.append(level.values)
        means = {name: float(np.nanmean([one[name] for one in figures])) for name in figures[0]}
        mean_level = Level(task.space, tuple(np.mean(used, axis=0).tolist()))
        shown = "auto" if request.estimated else str(mean_level)
        rows.append(
            {"level": shown, "mean_level": mean_level.plain(), "images": len(pairs), **means}
        )
    return {
        "dataset": folder.resolve().name,
        "task": task.name,
        "protocol": "pairs",
        "protocol_description": "real noisy and clean photographs; RGB",
        "level": "; ".join(f"{axis.quantity}, {axis.unit}" for axis in task.space.axes),
        "seed": 0,
        "hardware": f"{jax.devices()[0].device_kind} ({platform.machine()})",
        "rows": rows,
    }
