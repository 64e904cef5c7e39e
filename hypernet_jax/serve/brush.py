"""The canvas to paint a mask on, and the mask of what was painted."""

from abc import ABCMeta
from collections.abc import Sequence
from typing import Any

import gradio as gr
import numpy as np
from jaxtyping import Float32
from scipy.ndimage import gaussian_filter

from hypernet_jax.errors import UserError, real_number
from hypernet_jax.images.reading import read_photograph
from hypernet_jax.inference.sources import unit_of

__all__ = ["ONLY", "PAINT", "SPARED", "Canvas", "mask_of"]

ONLY, SPARED = "Restore only what is painted", "Spare what is painted"
# Colour and opacity of the brush.
PAINT = ("rgb(230, 40, 60)", 0.5)
# Megapixels; the canvas has the size of the overview.
_LARGEST = 1.0
# The softest edge of a mask, as a share of its longer side.
_SOFTEST = 0.1


def _layers(canvas: gr.ImageEditor, drawing: Any) -> list[str]:
    """The files of what was painted. Gradio itself would decode pictures of any size here."""
    del canvas
    return [] if drawing is None else [layer.path for layer in drawing.layers if layer is not None]


# Gradio's metaclass would write a file beside this module.
Canvas: Any = ABCMeta.__new__(
    type(gr.ImageEditor), "ImageEditor", (gr.ImageEditor,), {"preprocess": _layers}
)


def mask_of(
    layers: Sequence[str] | None, kind: str, softness: float | None
) -> Float32[np.ndarray, "h w"] | None:
    """The painted mask, in [0, 1]: the share of the level. None before the first stroke.

    Args:
      layers: the painted layer's file, if there is one.
      kind: `ONLY` or `SPARED`.
      softness: of the edge, from 0 to 1; others are limited to that.

    Raises:
      UserError: if it is no small picture, or `softness` no number.
    """
    softness = 0.0 if softness is None else real_number(softness, "softness")
    if not layers:
        return None
    try:
        (layer,) = layers
        alpha = read_photograph(layer, limit=_LARGEST).alpha
    except (UserError, ValueError):
        raise UserError(
            "The painted mask is not one small picture; drop the photograph again, and paint."
        ) from None
    if alpha is None or not alpha.any():
        return None
    opacity = alpha[..., 0].astype(np.float32) / unit_of(alpha.dtype)
    # Paint is half transparent, to show the photograph below, and has 8 bits.
    mask = np.clip(opacity / (PAINT[1] - 1 / 255), 0.0, 1.0)
    softness = min(max(softness, 0.0), 1.0)
    if softness:
        mask = gaussian_filter(mask, softness * _SOFTEST * max(mask.shape) / 2, truncate=2.0)
    return mask if kind == ONLY else 1.0 - mask
