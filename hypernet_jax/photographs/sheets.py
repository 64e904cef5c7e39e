"""Captioned pictures side by side: comparisons, and contact sheets of levels."""

import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hypernet_jax.images.deep import at_depth
from hypernet_jax.images.reading import Photograph
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.inference.sources import Source, unit_of
from hypernet_jax.levels import Level
from hypernet_jax.tasks import Task

__all__ = ["before_pixels", "contact_sheet", "level_text", "shown", "side_by_side", "sweep"]

_CAPTION, _GAP = 22, 4
# Side of one picture on a sheet of levels; pictures are cropped, not downscaled, because noise
# cannot be judged in a downscaled picture.
_SIDE = 480
_COLUMNS = 4

Labelled = tuple[np.ndarray, str]


def level_text(task: Task, level: Level) -> str:
    """A level for captions: "noise sigma 25", "x2.5"."""
    return level.describe() if task.factor(level) is None else f"x{task.factor(level):g}"


def contact_sheet(rows: Sequence[Sequence[Labelled]], *, profile: bytes | None = None) -> bytes:
    """Captioned pictures in rows, as a PNG file.

    Args:
      rows: (picture, caption); pictures are uint8 (H, W, C), C = 1 or 3, of any sizes.
      profile: the ICC profile of all pictures.
    """
    heights = [max(image.shape[0] for image, _ in row) for row in rows]
    font = ImageFont.load_default(14)
    # A caption wider than its picture must not overlap the next one.
    widths = [
        max(max(image.shape[1], math.ceil(font.getlength(text)) + 4) for image, text in column)
        for column in (
            [row[index] for row in rows if index < len(row)]
            for index in range(max(len(row) for row in rows))
        )
    ]
    colour = any(image.shape[-1] == 3 for row in rows for image, _ in row)
    width = sum(widths) + _GAP * (len(widths) - 1)
    height = sum(heights) + (_CAPTION + _GAP) * len(rows) - _GAP
    sheet = Image.new("RGB" if colour else "L", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    top = 0
    for row, row_height in zip(rows, heights, strict=True):
        left = 0
        for (image, text), column_width in zip(row, widths, strict=False):
            draw.text((left + 2, top + 3), text, fill="black", font=font)
            picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
            sheet.paste(picture, (left, top + _CAPTION))
            left += column_width + _GAP
        top += row_height + _CAPTION + _GAP
    stream = io.BytesIO()
    sheet.save(stream, "PNG", icc_profile=profile)
    return stream.getvalue()


def shown(pixels: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """Pixels for display: 8 bits, on a white background."""
    pixels = _as_8_bits(pixels)
    if alpha is None:
        return pixels
    share = alpha.astype(np.float32) / unit_of(alpha.dtype)
    return np.round(share * pixels + (1.0 - share) * 255.0).astype(np.uint8)


def before_pixels(
    task: Task, pixels: np.ndarray, level: Level, part: tuple[slice, slice]
) -> np.ndarray:
    """A part of the network's input, in 8 bits."""
    source = Source(pixels[None], task.factor(level))
    return np.round(255.0 * source.read(0, *part)).astype(np.uint8)


def side_by_side(task: Task, before: Photograph, after: Photograph, level: Level) -> bytes:
    """The whole input and result as a PNG file; the input is enlarged if the task enlarges."""
    height, width = after.pixels.shape[:2]
    whole = (slice(0, height), slice(0, width))
    alpha = None if after.alpha is None else _as_8_bits(after.alpha)
    pictures = [
        (shown(before_pixels(task, before.pixels, level, whole), alpha), "input"),
        (shown(after.pixels, after.alpha), f"restored, {level_text(task, level)}"),
    ]
    return contact_sheet([pictures], profile=_profile(after))


def _profile(photograph: Photograph) -> bytes | None:
    return photograph.metadata.profile_as_shown(grey=photograph.pixels.shape[-1] == 1)


def _as_8_bits(samples: np.ndarray) -> np.ndarray:
    return samples if samples.dtype == np.uint8 else at_depth(samples, 8)


def _centre(size: tuple[int, int], side: tuple[float, float]) -> tuple[slice, slice]:
    parts = []
    for length, wanted in zip(size, side, strict=True):
        taken = min(length, max(1, round(wanted)))
        start = (length - taken) // 2
        parts.append(slice(start, start + taken))
    return parts[0], parts[1]


def sweep(
    restorer: Restorer, photograph: Photograph, levels: Sequence[Level], *, blend: float = 1.0
) -> bytes:
    """The middle of a photograph at several levels, at full resolution, as a PNG file.

    For super-resolution each picture shows the same part of the input, enlarged.
    """
    task = restorer.model.task
    size = photograph.pixels.shape[:2]
    factors = [task.factor(level) or 1.0 for level in levels]
    pictures: list[Labelled] = []
    for level, factor in zip(levels, factors, strict=True):
        whole = restorer.restored_size(size, level)
        side = _SIDE * factor / max(factors)
        part = _centre(whole, (side, side))
        if not pictures or task.enlarges:
            caption = f"input, {level_text(task, level)}" if task.enlarges else "input"
            pictures.append((before_pixels(task, photograph.pixels, level, part), caption))
        restored = restorer.restore(photograph.pixels, level=level, blend=blend, window=part)
        pictures.append((shown(restored), f"restored, {level_text(task, level)}"))
    columns = 2 if task.enlarges else _COLUMNS
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    return contact_sheet(rows, profile=_profile(photograph))
