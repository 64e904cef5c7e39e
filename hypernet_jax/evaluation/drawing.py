"""Plots: PSNR and its distances over levels, wrong levels, and the space of weights."""

import importlib.util
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.tasks import get_task

__all__ = [
    "check_drawing",
    "draw_curve",
    "draw_distance",
    "draw_requested",
    "draw_weight_space",
    "level_label",
    "png_of",
]


def check_drawing() -> None:
    """Raises `UserError` if the extra that draws is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError(
            "Curves need matplotlib, which is not installed: pip install 'hypernet-jax[train]'."
        )


def _figure(width: float, height: float, columns: int = 1):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns)


def png_of(figure) -> bytes:
    """The bytes of a PNG of a matplotlib figure; the same for equal figures."""
    stream = io.BytesIO()
    # Without date and version, equal plots give identical files.
    figure.savefig(stream, format="png", dpi=120, metadata={"Software": None})
    return stream.getvalue()


def level_label(level: float | str | Mapping[str, float]) -> str:
    """A level of results.json as text: "25", or "noise=15,jpeg=40"."""
    if isinstance(level, str):
        return level
    if isinstance(level, Mapping):
        return ",".join(f"{name}={value:g}" for name, value in level.items())
    return f"{level:g}"


def draw_curve(results: Mapping[str, Any]) -> bytes:
    """A PNG plot of PSNR over levels, input and restored, from the results of `evaluate`."""
    rows, task = results["rows"], get_task(results["task"])
    figure, axes = _figure(6.4, 4.0)
    if len(task.space) == 1 and all(not isinstance(row["level"], str) for row in rows):
        rows = sorted(rows, key=lambda row: row["level"])
        levels = [row["level"] for row in rows]
        worse = "higher" if task.space.single.higher_is_worse else "lower"
        axes.set_xlabel(f"{results['level']} ({worse} is more degraded)")
    else:
        levels = list(range(len(rows)))
        axes.set_xticks(levels, [level_label(row["level"]) for row in rows], rotation=30)
        axes.set_xlabel(results["level"])
    axes.plot(levels, [row["psnr"] for row in rows], "o-", label="restored")
    axes.plot(levels, [row["psnr_input"] for row in rows], "s--", color="0.5", label="input")
    axes.set_ylabel("PSNR (dB)")
    # The folder's name may hold signs of formulas, and bytes that are not text.
    title = f"{results['dataset']}: {task.title}, {results['protocol']} protocol"
    axes.set_title(title.encode(errors="backslashreplace").decode(), parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend()
    return png_of(figure)


def draw_distance(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    published: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    level: str,
) -> bytes:
    """A PNG plot of PSNR minus that of the dedicated network, over levels.

    Args:
      curves: measured (levels, dB), by name.
      published: the same from the literature, drawn with thinner lines.
      level: label of the axis.
    """
    figure, axes = _figure(9.6, 4.2)
    axes.axhline(0.0, color="0.3", linewidth=1.0, label="dedicated networks")
    for name, (levels, distances) in curves.items():
        axes.plot(levels, distances, "o-", label=name)
    for name, (levels, distances) in published.items():
        axes.plot(levels, distances, "--", linewidth=1.0, label=f"published: {name}")
    axes.set_xlabel(level)
    axes.set_ylabel("PSNR minus dedicated (dB)")
    axes.set_ylim(bottom=max(axes.get_ylim()[0], -2.5))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return png_of(figure)


def draw_requested(study: Mapping[str, Any], *, level: str) -> bytes:
    """A PNG plot of the loss from a wrong level: `requested_study` minus the best of each row."""
    psnr = np.asarray(study["psnr"])
    loss = psnr - psnr.max(axis=1, keepdims=True)
    figure, axes = _figure(7.2, 0.8 + 0.42 * len(study["levels"]))
    image = axes.imshow(loss, cmap="magma", vmin=max(-6.0, loss.min()), vmax=0.0, aspect="auto")
    for (row, column), value in np.ndenumerate(loss):
        axes.text(
            column,
            row,
            f"{value:.1f}".replace("-0.0", "0"),
            ha="center",
            va="center",
            fontsize=7,
            color="white" if value < -2.0 else "black",
        )
    axes.set_xticks(range(len(study["requested"])), [f"{x:g}" for x in study["requested"]])
    axes.set_yticks(range(len(study["levels"])), [f"{x:g}" for x in study["levels"]])
    axes.set_xlabel(f"requested {level}")
    axes.set_ylabel("true")
    figure.colorbar(image, ax=axes, label="dB below the best")
    return png_of(figure)


def draw_weight_space(spaces: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A PNG plot of several models' generated weights along their two principal components."""
    figure, panels = _figure(3.6 * len(spaces), 3.4, len(spaces))
    for axes, (name, space) in zip(np.atleast_1d(panels), spaces.items(), strict=True):
        x, y = np.asarray(space["components"]).T
        scale = np.abs(x).max() or 1.0
        points = axes.scatter(x / scale, y / scale, c=space["levels"], cmap="viridis", zorder=2)
        axes.plot(x / scale, y / scale, color="0.7", linewidth=1.0, zorder=1)
        axes.set_ylim(-1.1, 1.1)
        axes.set_title(f"{name}: {100 * space['explained'][0]:.1f} % on the first", fontsize=9)
        axes.set_xlabel("first component")
        axes.grid(alpha=0.3)
        figure.colorbar(points, ax=axes, label="level")
    np.atleast_1d(panels)[0].set_ylabel("second component")
    return png_of(figure)
