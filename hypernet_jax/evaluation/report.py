"""Writes results: results.json, a Markdown table and a plot of PSNR over levels."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypernet_jax.evaluation.drawing import check_drawing, draw_curve, level_label
from hypernet_jax.markdown import table
from hypernet_jax.storage import check_target, ensure_place, storage_path, write_whole
from hypernet_jax.tasks import get_task

__all__ = ["check_report", "finite", "markdown_table", "write_report"]

_FILES = ("results.json", "results.md", "curve.png")

_COLUMNS = {
    "level": "level",
    "images": "images",
    "psnr_input": "PSNR input",
    "psnr": "PSNR restored",
    "ssim_input": "SSIM input",
    "ssim": "SSIM restored",
    "dark_bias_input": "dark bias input",
    "dark_bias": "dark bias restored",
    "psnr_b_input": "PSNR-B input",
    "psnr_b": "PSNR-B restored",
}


def _cell(column: str, value: Any) -> str:
    if column == "level":
        return level_label(value)
    if column == "images":
        return f"{value:g}"
    if column.startswith(("ssim", "dark")):
        digits = 4 if column.startswith("ssim") else 2
        return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"
    # For PSNR None stands for infinity: see `finite`.
    return f"{math.inf if value is None else value:.2f}"


def markdown_table(results: dict[str, Any]) -> str:
    """The rows of `results` as a Markdown table, with a caption that names the protocol."""
    columns = [column for column in _COLUMNS if column in results["rows"][0]]
    # Real pairs have no seed, and results without the entry on views are from a single one.
    conditions = [f"seed {results['seed']}"] if "seed" in results else []
    if results.get("self_ensemble"):
        conditions.append("mean of eight views (self-ensemble)")
    caption = (
        f"{results['dataset']}, {get_task(results['task']).title}, "
        f"{results['protocol']} protocol ({results['protocol_description']})"
        f"{''.join(f', {each}' for each in conditions)}; level: {results['level']}."
    )
    rows = [[_cell(column, row[column]) for column in columns] for row in results["rows"]]
    return f"{caption}\n\n{table([_COLUMNS[column] for column in columns], rows)}"


def finite(tree: Any) -> Any:
    """Replaces infinity, the PSNR of an undegraded input, and not a number by None, as in JSON."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def check_report(output: str | Path, *, overwrite: bool) -> None:
    """Raises `UserError` if no report can be written into the folder: before the measuring."""
    check_drawing()
    folder = ensure_place(output)
    for name in _FILES:
        check_target(folder / name, overwrite=overwrite)


def write_report(
    results: dict[str, Any], output: str | Path, *, overwrite: bool = False
) -> list[Any]:
    """Writes results.json, results.md and curve.png to a folder or store; returns their paths.

    Raises:
      UserError: if one of them exists, unless `overwrite`; each is replaced atomically.
    """
    check_report(output, overwrite=overwrite)
    folder = storage_path(output)
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: (json.dumps(finite(results), indent=2, allow_nan=False) + "\n").encode(),
        lambda: markdown_table(results).encode(errors="backslashreplace"),
        lambda: draw_curve(results),
    )
    # The figures are on the disk before anything is drawn from them.
    for name, make in zip(_FILES, makers, strict=True):
        write_whole(folder / name, make(), overwrite=overwrite)
    return [folder / name for name in _FILES]
