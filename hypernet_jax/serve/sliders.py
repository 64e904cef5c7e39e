"""The sliders of the page."""

from abc import ABCMeta
from typing import Any

import gradio as gr

from hypernet_jax.axes import LevelAxis
from hypernet_jax.levels import STRONGEST
from hypernet_jax.tasks import TASKS

__all__ = ["UncheckedSlider", "axis_slider", "level_slider"]


def _as_it_is(slider: gr.Slider, value: Any) -> Any:
    del slider
    return value


# Gradio's slider, whose value the handlers check and limit. Gradio itself refuses values outside
# the initial range, and an empty box of the number, with its own words. The value is None while
# the box is empty, and before it is set. Gradio's metaclass would write a file beside this module.
UncheckedSlider: Any = ABCMeta.__new__(
    type(gr.Slider), "Slider", (gr.Slider,), {"preprocess": _as_it_is, "postprocess": _as_it_is}
)


def level_slider(task: str, value: float, **options: Any) -> gr.Slider:
    """The slider of a task: its level, or the strength if the level has several parts."""
    space = TASKS[task].space
    if len(space) > 1:
        return gr.Slider(0.0, STRONGEST, value=value, step=0.05, label="Strength", **options)
    return axis_slider(space.single, value, **options)


def axis_slider(axis: LevelAxis, value: float, **options: Any) -> gr.Slider:
    """The slider of one part of a level, in native units."""
    unit = f" ({axis.unit})" if axis.unit else ""
    return gr.Slider(
        axis.low,
        axis.high,
        value=value,
        step=axis.step,
        label=f"{axis.quantity[:1].upper()}{axis.quantity[1:]}{unit}",
        **options,
    )
