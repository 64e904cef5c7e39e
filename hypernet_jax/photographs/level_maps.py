"""Masks and level maps: white takes the full level, black none of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Float32
from PIL import Image

from hypernet_jax.errors import UserError
from hypernet_jax.images.channels import luminance
from hypernet_jax.images.reading import DEFAULT_LIMIT, read_photograph
from hypernet_jax.inference.sources import unit_of
from hypernet_jax.levels import Level, LevelSpace

__all__ = [
    "Masks",
    "blend_of_mask",
    "level_map",
    "mask_beside",
    "mask_of_size",
    "parse_masks",
    "read_mask",
    "read_masks",
    "without_masks",
]

P = TypeVar("P", bound=PurePath)

# A mask file, or mask files by the names of the parts.
Masks = str | Path | Mapping[str, str | Path]

_BESIDE = ".mask.png"

# Largest difference of proportions between mask and image, in rows or columns of rounding.
_ODD = 1.5
# Below this share of the level the result fades to the original image.
_FAINT = 0.1


def read_mask(
    path: str | Path, size: tuple[int, int], *, limit: float = DEFAULT_LIMIT
) -> Float32[np.ndarray, "h w"]:
    """Reads a mask and resizes it to an image; float32 (H, W) in [0, 1].

    Args:
      path: an image file, grey or colour, of 8 or 16 bits or floats, with the image's proportions.
      size: (H, W) of the image.
      limit: megapixels that it may have.

    Raises:
      UserError: if it cannot be read, is too large, or has other proportions.
    """
    held = read_photograph(path, limit=limit)
    if held.alpha is not None and held.alpha.min() < unit_of(held.alpha.dtype):
        raise UserError(
            f"The mask {path} is transparent in places, which has no meaning in a mask; fill "
            "these places with black to leave the image unchanged there."
        )
    pixels = held.pixels
    mask = pixels.astype(np.float32) / np.float32(unit_of(pixels.dtype))
    if mask.shape[-1] == 3:
        grey = (mask == mask[..., :1]).all()
        mask = mask[..., :1] if grey else luminance(np.round(255 * mask).astype(np.uint8)) / 255
    mask = np.asarray(mask[..., 0], np.float32)
    check_proportions(mask, size, called=f"mask {path}")
    return mask_of_size(mask, size, (0, 0), size)


def check_proportions(
    mask: Float[np.ndarray, "*n h w"], size: tuple[int, int], *, called: str = "mask"
) -> None:
    """Raises `UserError` if a mask, or several, has other proportions than an image (H, W)."""
    height, width = mask.shape[-2:]
    if abs(height * size[1] - width * size[0]) > _ODD * max(*size, height, width):
        raise UserError(
            f"The {called} has {width}x{height} pixels, which does not fit the proportions of "
            f"the image's {size[1]}x{size[0]}; draw it on the image itself."
        )


def parse_masks(text: str, space: LevelSpace) -> Masks:
    """Parses masks: a file, or PART=FILE pairs separated by commas.

    Raises:
      UserError: for a part that the level does not have, or one that is named twice.
    """
    if "=" not in text or Path(text).exists():
        return text
    masks: dict[str, str] = {}
    for pair in text.split(","):
        name, _, path = (part.strip() for part in pair.partition("="))
        if name not in space.names or not path:
            raise UserError(
                f"The mask {pair!r} is not valid; give PART=FILE with a part of the level: "
                f"{', '.join(space.names)}."
            )
        if name in masks:
            raise UserError(f"There are two masks for {name}; give one.")
        masks[name] = path
    return masks


def mask_files(masks: Masks | None) -> list[str | Path]:
    """The files of masks."""
    if masks is None:
        return []
    return list(masks.values()) if isinstance(masks, Mapping) else [masks]


def mask_beside(source: P) -> P:
    """The path of a photograph's mask in its folder: NAME.mask.png."""
    return source.with_name(source.stem + _BESIDE)


def without_masks(found: Sequence[P]) -> tuple[list[P], set[P]]:
    """Separates the images of a folder into photographs and the masks beside them."""
    masks = {mask_beside(path) for path in found} & set(found)
    return [path for path in found if path not in masks], masks


def read_masks(
    masks: Masks, space: LevelSpace, size: tuple[int, int], *, limit: float = DEFAULT_LIMIT
) -> np.ndarray:
    """Reads a mask, (H, W), or one for each part of the level, (H, W, A), as `read_mask`.

    Parts without a mask are applied fully everywhere.

    Raises:
      UserError: also for a part that the level does not have, or no part.
    """
    if not isinstance(masks, Mapping):
        return read_mask(masks, size, limit=limit)
    unknown = [name for name in masks if name not in space.names]
    if unknown or not masks:
        found = f"a mask for {unknown[0]!r}" if unknown else "no mask"
        raise UserError(
            f"The level map has {found}; give masks for parts of the level: "
            f"{', '.join(space.names)}."
        )
    full = np.ones(size, np.float32)
    each = [
        read_mask(masks[name], size, limit=limit) if name in masks else full for name in space.names
    ]
    return np.stack(each, axis=-1)


def mask_of_size(
    mask: Float[np.ndarray, "h w"],
    size: tuple[int, int],
    origin: tuple[int, int],
    part: tuple[int, int],
) -> Float32[np.ndarray, "h2 w2"]:
    """Resizes a mask to an image, or to a part of it, bilinearly; float32 in [0, 1].

    Args:
      mask: (H, W) in [0, 1], for the whole image, in any size.
      size: (H, W) of the image.
      origin: first row and column of the part.
      part: (H, W) of the part.
    """
    if mask.shape == size:
        rows, columns = (slice(start, start + n) for start, n in zip(origin, part, strict=True))
        return np.asarray(mask[rows, columns], np.float32)
    down, across = mask.shape[0] / size[0], mask.shape[1] / size[1]
    (top, left), (height, width) = origin, part
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    picture = Image.fromarray(mask.astype(np.float32), "F")
    picture = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.clip(np.asarray(picture), 0.0, 1.0)


def blend_of_mask(
    mask: Float[np.ndarray, "h w *a"], blend: float = 1.0
) -> Float32[np.ndarray, "h w"]:
    """The weight of the restored image at each pixel, (H, W) in [0, 1].

    Even at its neutral level a network slightly changes a degraded image. Where a mask is nearly
    black, the result therefore fades to the original image, which it equals where the mask is
    black. Of several masks, (H, W, A), the largest value counts.
    """
    if mask.ndim == 3:
        mask = mask.max(axis=-1)
    return np.float32(blend) * np.minimum(np.float32(1.0), mask / np.float32(_FAINT))


def level_map(level: Level, mask: Float[np.ndarray, "h w *m"]) -> Float[np.ndarray, "h w a"]:
    """The level of every pixel, (H, W, A) in native units.

    Args:
      level: the level where the mask is 1.
      mask: (H, W), or (H, W, A) with one for each part, in [0, 1]. The level is neutral where it
        is 0; between 0 and 1, z of each part is interpolated linearly, because the kernels depend
        on z.
    """
    parts = []
    for index, (axis, value) in enumerate(zip(level.space.axes, level.values, strict=True)):
        own = mask[..., index] if mask.ndim == 3 else mask
        shares = np.linspace(0.0, 1.0, 4097)
        table = axis.scaled(value, shares)
        table[0], table[-1] = axis.neutral, value
        parts.append(np.interp(own, shares, table))
    return np.stack(parts, axis=-1).astype(np.float32)
