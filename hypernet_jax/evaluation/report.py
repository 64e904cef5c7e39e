"""Results as files: results.json, a Markdown table and a curve of PSNR over levels."""

import io
import json
import math
from pathlib import Path
from typing import Any

from hypernet_jax.files import ensure_folder, write_atomically
from hypernet_jax.tasks import get_task

__all__ = ["finite", "markdown_table", "write_report"]

_COLUMNS = {
    "level": "level",
    "images": "images",
    "psnr_input": "PSNR input",
    "psnr": "PSNR restored",
    "ssim_input": "SSIM input",
    "ssim": "SSIM restored",
    "psnr_b_input": "PSNR-B input",
    "psnr_b": "PSNR-B restored",
}


def _cell(column: str, value: float) -> str:
    if column in ("level", "images"):
        return f"{value:g}"
    return f"{value:.4f}" if column.startswith("ssim") else f"{value:.2f}"


def markdown_table(results: dict[str, Any]) -> str:
    """The rows of `results` as a Markdown table under a line that names the protocol."""
    columns = [column for column in _COLUMNS if column in results["rows"][0]]
    lines = [
        f"{results['dataset']}, {get_task(results['task']).title}, "
        f"{results['protocol']} protocol ({results['protocol_description']}), "
        f"seed {results['seed']}; level: {results['level']}.",
        "",
        "| " + " | ".join(_COLUMNS[column] for column in columns) + " |",
        "|" + " ---: |" * len(columns),
    ]
    for row in results["rows"]:
        lines.append("| " + " | ".join(_cell(column, row[column]) for column in columns) + " |")
    return "\n".join(lines) + "\n"


def _curve_png(results: dict[str, Any]) -> bytes:
    """PSNR over levels, input and restored."""
    from matplotlib.figure import Figure

    rows = sorted(results["rows"], key=lambda row: row["level"])
    levels = [row["level"] for row in rows]
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(levels, [row["psnr"] for row in rows], "o-", label="restored")
    axes.plot(levels, [row["psnr_input"] for row in rows], "s--", color="0.5", label="input")
    worse = "higher" if get_task(results["task"]).scale.higher_is_worse else "lower"
    axes.set_xlabel(f"{results['level']} ({worse} is more degraded)")
    axes.set_ylabel("PSNR (dB)")
    axes.set_title(
        f"{results['dataset']}: {get_task(results['task']).title}, {results['protocol']} protocol"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    return stream.getvalue()


def finite(tree: Any) -> Any:
    """JSON knows no infinity: the PSNR of an undegraded input becomes null."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def write_report(results: dict[str, Any], output: str | Path) -> list[Path]:
    """Writes results.json, results.md and curve.png into a folder; returns their paths.

    An earlier report in that folder is replaced, each file in one move.
    """
    folder = ensure_folder(output)
    contents = {
        "results.json": (json.dumps(finite(results), indent=2, allow_nan=False) + "\n").encode(),
        "results.md": markdown_table(results).encode(),
        "curve.png": _curve_png(results),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content, overwrite=True)
    return [folder / name for name in contents]
