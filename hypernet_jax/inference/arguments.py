"""Checks of what a caller gives to a `Restorer`."""

import os
import reprlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hypernet_jax.errors import UserError, real_number
from hypernet_jax.hypernet import Theta
from hypernet_jax.images.limits import check_unit_range
from hypernet_jax.levels import axes_of
from hypernet_jax.model import Model

__all__ = [
    "Window",
    "are_grey",
    "as_image",
    "as_numpy",
    "batch_of",
    "blend_of_size",
    "check_model",
    "checked_blend",
    "checked_margin",
    "checked_window",
]

Window = tuple[slice, slice]


def check_model(model: Model, theta: Theta) -> None:
    """Raises `UserError` for what is no model, or no parameters of one."""
    if not isinstance(model, Model):
        raise UserError(f"{reprlib.repr(model)} is not a Model; use Restorer.from_pretrained.")
    if not isinstance(theta, dict) or {"generated", "shared", "features"} - theta.keys():
        raise UserError("Theta is not valid; give what HyperNetwork.init or load_weights returns.")
    given, wanted = (
        {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in flat}
        for flat in map(jax.tree_util.tree_leaves_with_path, (theta, model.shapes()))
    )
    if given != wanted:
        path = min(set(given.items()) ^ set(wanted.items()))[0]
        raise UserError(
            f"Theta is not of this model: {path} is {given.get(path, 'missing')}, and the model "
            f"has {wanted.get(path, 'none')}; give both as load_weights returns them."
        )


def as_numpy(value: Any, called: str) -> np.ndarray:
    """The value as an array; the `UserError` otherwise calls it `called`."""
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"The {called} is no array of numbers ({error}).") from None


def as_image(image: Any) -> np.ndarray:
    """The image as an array in native byte order."""
    if isinstance(image, (str, bytes, os.PathLike)):
        raise UserError(
            f"{reprlib.repr(image)} is a text, not an array of pixels; give read_image of the "
            "file, or use restore_file."
        )
    mode = getattr(image, "mode", "RGB") if hasattr(image, "getbands") else "RGB"
    if mode not in ("RGB", "L", "I;16"):
        raise UserError(
            f"An image of Pillow in mode {mode} has no RGB or grey pixels; "
            'give image.convert("RGB").'
        )
    image = as_numpy(image, "image")
    if image.dtype == jnp.bfloat16:
        image = image.astype(np.float32)
    if image.dtype.kind not in "uif":
        raise UserError(f"An image must be uint8, uint16 or float in [0, 1], not {image.dtype}.")
    return image.astype(image.dtype.newbyteorder("="), copy=False)


def batch_of(image: np.ndarray) -> np.ndarray:
    """The image as (N, H, W, C); `UserError` if it is unsuitable."""
    if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        raise UserError(f"An image must be uint8, uint16 or float in [0, 1], not {image.dtype}.")
    if image.ndim not in (2, 3, 4) or (image.ndim > 2 and image.shape[-1] not in (1, 3)):
        raise UserError(
            "An image must be (H, W), (H, W, C) or (N, H, W, C) with 1 or 3 channels, "
            f"not of shape {image.shape}."
        )
    if not image.size:
        raise UserError(f"The image of shape {image.shape} has no pixels.")
    if np.issubdtype(image.dtype, np.floating):
        check_unit_range(image)
    if image.ndim == 2:
        image = image[..., None]
    return image if image.ndim == 4 else image[None]


def are_grey(images: np.ndarray) -> np.ndarray:
    """Which of the images (N, H, W, 3) have three equal channels; bool (N,)."""

    def is_grey(image: np.ndarray) -> bool:
        # A few rows identify nearly every colour image, which keeps a slider responsive.
        return all(bool((rows == rows[..., :1]).all()) for rows in (image[::64], image))

    return np.array([is_grey(image) for image in images])


def checked_blend(blend: Any) -> float:
    """The weight of the restored image as a number; `UserError` outside 0 to 1."""
    blend = real_number(blend, "blend")
    if not 0.0 <= blend <= 1.0:
        raise UserError(f"The blend {blend:g} is out of range; give a number from 0 to 1.")
    return blend


def blend_of_size(blend: Any, size: tuple[int, int]) -> np.ndarray | None:
    """The weight of the restored image at each pixel, float32 (H, W); None: 1 everywhere."""
    if not axes_of(blend):
        blend = checked_blend(blend)
        return None if blend == 1.0 else np.broadcast_to(np.float32(blend), size)
    blend = as_numpy(blend, "blend")
    if blend.shape != size or blend.dtype.kind not in "uif":
        raise UserError(
            f"The blend is a {blend.dtype} array of shape {blend.shape}; give a number, or an "
            f"array of numbers of the result's shape {size}."
        )
    # Written so that it is also true for NaN.
    if not (blend.min() >= 0 and blend.max() <= 1):
        raise UserError("The blend is out of range; give numbers from 0 to 1.")
    return blend.astype(np.float32)


def checked_margin(margin: Any, halo: int) -> int:
    """The context around a window in pixels, at most `halo`; `UserError` for others."""
    if isinstance(margin, (bool, np.bool_)) or not isinstance(margin, (int, np.integer)):
        raise UserError(f"The margin {margin!r} is not a whole number; give one, or None.")
    if margin < 0:
        raise UserError(f"The margin {margin} is negative; give 0 or more, or None.")
    return min(int(margin), halo)


def _is_place(value) -> bool:
    return value is None or isinstance(value, (int, np.integer))


def checked_window(window: Window | None, size: tuple[int, int]) -> Window:
    """The window inside an image of `size` (H, W), all if None; `UserError` if none is."""
    if window is None:
        return slice(0, size[0]), slice(0, size[1])
    if not (
        isinstance(window, (tuple, list))
        and len(window) == 2
        and all(isinstance(part, slice) for part in window)
        and all(_is_place(end) for part in window for end in (part.start, part.stop, part.step))
    ):
        raise UserError(
            f"The window {window!r} is not valid; give two slices of whole numbers, rows and "
            "columns."
        )
    if any(part.step not in (None, 1) for part in window):
        raise UserError("The window has a step; give slices without one.")
    rows, columns = (slice(*part.indices(n)[:2]) for part, n in zip(window, size, strict=True))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        raise UserError(
            f"The window lies outside the image of {size[1]}x{size[0]} pixels; give one inside it."
        )
    return rows, columns
