"""The sliders of the page."""

from typing import Any

import gradio as gr

from hypernet_jax.levels import STRONGEST, LevelAxis
from hypernet_jax.tasks import TASKS

__all__ = ["Slider", "axis_slider", "level_slider"]


class Slider(gr.Slider):
    """Gradio's slider, whose value is checked and limited by `Studio.level`.

    Gradio itself refuses values outside the initial range, and an empty box of the number, with
    its own words. The value is None while the box is empty, and before it is set.
    """

    is_template = True  # its looks are those of its base

    def preprocess(self, payload: Any) -> Any:
        """The value as the browser sent it."""
        return payload

    def postprocess(self, value: Any) -> Any:
        """The value as it is."""
        return value


def level_slider(task: str, value: float, **options: Any) -> Slider:
    space = TASKS[task].space
    if len(space) > 1:
        return Slider(0.0, STRONGEST, value=value, step=0.05, label="Strength", **options)
    return axis_slider(space.single, value, **options)


def axis_slider(axis: LevelAxis, value: float, **options: Any) -> Slider:
    unit = f" ({axis.unit})" if axis.unit else ""
    return Slider(
        axis.low,
        axis.high,
        value=value,
        step=axis.step,
        label=f"{axis.quantity[:1].upper()}{axis.quantity[1:]}{unit}",
        **options,
    )
