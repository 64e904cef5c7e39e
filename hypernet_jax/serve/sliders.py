"""The sliders of the page."""

from typing import Any

import gradio as gr

from hypernet_jax.levels import STRONGEST, LevelAxis
from hypernet_jax.tasks import TASKS

__all__ = ["axis_slider", "level_slider", "unchecked_slider"]


def unchecked_slider(*args: Any, **options: Any) -> gr.Slider:
    """Gradio's slider, whose value the handlers check and limit.

    Gradio itself refuses values outside the initial range, and an empty box of the number, with
    its own words. The value is None while the box is empty, and before it is set.
    """
    slider = gr.Slider(*args, buttons=[], **options)
    # Not in a subclass: for those, gradio writes a file beside the module.
    for step in ("preprocess", "postprocess"):
        setattr(slider, step, lambda value: value)
    return slider


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
