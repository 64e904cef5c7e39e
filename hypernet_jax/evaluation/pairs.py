"""Evaluates a restorer on real pairs of noisy and clean photographs of the same scenes."""

from pathlib import Path
from typing import Any

import numpy as np
import tqdm

from hypernet_jax.errors import UserError
from hypernet_jax.evaluation.measure import about, means_of, restore_degraded
from hypernet_jax.files import local_path
from hypernet_jax.images.folders import images_by_name
from hypernet_jax.images.reading import read_image
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.levels import AUTO, Level
from hypernet_jax.metrics import psnr, ssim
from hypernet_jax.runtime import ordinary_arithmetic

__all__ = ["DARK", "evaluate_pairs"]

# Pixels with a clean value below this are dark; the column "dark bias" is for them.
DARK = 32


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """(noisy, clean) files in the two folders in `folder`, of the same name up to the suffix.

    Raises:
      UserError: if one of a pair is missing, or they differ in size or channels.
    """
    noisy, clean = images_by_name(folder / "noisy"), images_by_name(folder / "clean")
    if noisy.keys() != clean.keys():
        odd = sorted(noisy.keys() ^ clean.keys())[0]
        raise UserError(
            f"In {folder} only one of noisy and clean has an image {odd}; add or remove one."
        )
    pairs = [(noisy[name], clean[name]) for name in sorted(noisy)]
    for pair in pairs:
        one, other = (read_image(path).shape for path in pair)
        if one != other:
            raise UserError(
                f"{pair[0]} and {pair[1]} are no pair: (height, width, channels) are {one} and "
                f"{other}; give both in the same size, and both in colour or grey."
            )
    return pairs


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
    restorer: Restorer, folder: str | Path, *, levels: Any = (), progress: bool = True
) -> dict[str, Any]:
    """Restores the noisy photographs of a folder at each level and compares them with clean ones.

    Args:
      restorer: the restorer to evaluate; its task must keep the size.
      folder: contains the folders noisy and clean, with images of the same names.
      levels: several as `LevelSpace.request` takes them, text as for `request_list`, or one; if
        empty, "auto", or the only one of a plain network.
      progress: draw a progress bar on a terminal.

    Returns:
      The content of results.json: for each level the means over pairs of PSNR and SSIM in 8-bit
      RGB (deeper files are rounded), and of the mean error of pixels with a clean value below
      `DARK`, where a pair has such pixels.
    """
    task, rows = restorer.model.task, []
    if task.enlarges:
        raise UserError(
            f"Pairs have one size, and {task.name} enlarges; give a folder of clean images instead."
        )
    asked = task.space.separated(levels) or [AUTO if task.space.only is None else task.space.only]
    requests = list(dict.fromkeys(map(task.space.request, asked)))
    folder = local_path(folder)
    pairs = _pairs(folder)
    total = len(requests) * len(pairs)
    with tqdm.tqdm(total=total, unit="image", disable=None if progress else True) as bar:
        for request in requests:
            figures, used = [], []
            for noisy_path, clean_path in pairs:
                noisy, clean = read_image(noisy_path), read_image(clean_path)
                try:
                    level, _ = resolve_level(task, request, noisy, noisy_path)
                except UserError as error:
                    raise UserError(f"{noisy_path}: {error}") from None
                restored = restore_degraded(restorer, noisy, level, path=noisy_path)
                before = {f"{name}_input": value for name, value in _figures(noisy, clean).items()}
                name = noisy_path.relative_to(folder / "noisy").as_posix()
                figures.append({"image": name, **before, **_figures(restored, clean)})
                used.append(level.values)
                bar.update()
            if request.estimated:
                mean = Level(task.space, tuple(np.mean(used, axis=0).tolist())).plain()
                shown: Any = str(request)
            else:  # one level for all, whose mean differs from it by rounding
                mean = shown = level.plain()
            rows.append({"level": shown, "mean_level": mean, **means_of(figures)})
    return {
        "dataset": folder.resolve().name,
        "task": task.name,
        "protocol": "pairs",
        "protocol_description": "real noisy and clean photographs; 8-bit RGB",
        "level": task.space.measured(),
        **about(restorer),
        "rows": rows,
    }
