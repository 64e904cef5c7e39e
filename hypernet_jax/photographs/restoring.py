"""Restores an image file and writes the result."""

import dataclasses
import os
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from hypernet_jax import files
from hypernet_jax.degradations import bicubic_resize
from hypernet_jax.errors import UserError, real_number
from hypernet_jax.files import local_path
from hypernet_jax.images.reading import DEFAULT_LIMIT, Photograph, read_photograph
from hypernet_jax.images.writing import Encoding, can_be_transparent, format_of
from hypernet_jax.inference.arguments import checked_blend
from hypernet_jax.inference.requests import Estimator, resolve_level
from hypernet_jax.inference.restorer import Progress, Restorer
from hypernet_jax.inference.sources import unit_of
from hypernet_jax.levels import Level, checked_strength
from hypernet_jax.photographs.level_maps import (
    Masks,
    blend_of_mask,
    level_map,
    mask_files,
    read_masks,
)
from hypernet_jax.photographs.luma_chroma import luma_with_chroma
from hypernet_jax.photographs.sheets import side_by_side

__all__ = [
    "Options",
    "Restored",
    "check_output",
    "comparison_name",
    "exists_already",
    "restore_file",
    "restore_photograph",
]


@dataclasses.dataclass(frozen=True)
class Options:
    """Options for restoring a file.

    Attributes:
      level: as `LevelSpace.request` takes it; "auto" estimates it.
      blend: the weight of the restored image, 0 to 1.
      encoding: how the output is encoded.
      overwrite: replace an existing output.
      compare: also write input and result side by side, in a file beside the output.
      limit: the largest input, in megapixels.
      estimator: replaces the task's own estimator for "auto", e.g. `LevelEstimator.estimate`.
      level_map: a mask file with the image's proportions, in which white takes the full level and
        black none; or such files by the names of parts.
      luma, chroma: strength of restoration of luminance and colour, relative to the level: 0: not
        at all, 1: as the level, 2: twice as strong.
    """

    level: Any
    blend: float = 1.0
    encoding: Encoding = dataclasses.field(default_factory=Encoding)
    overwrite: bool = False
    compare: bool = False
    limit: float = DEFAULT_LIMIT
    estimator: Estimator | None = None
    luma: float = 1.0
    chroma: float = 1.0
    level_map: Masks | None = None

    def __post_init__(self):
        if not isinstance(self.encoding, Encoding):
            raise UserError(f"{self.encoding!r} is not an Encoding; give Encoding(quality).")
        if self.estimator is not None and not callable(self.estimator):
            raise UserError(f"The estimator {self.estimator!r} is not callable; give a function.")
        for mask in mask_files(self.level_map):
            if not isinstance(mask, (str, os.PathLike)):
                raise UserError(
                    f"The level map {reprlib.repr(mask)} names no file; give a mask file, or "
                    "an array of levels to Restorer.restore."
                )
        checked_blend(self.blend)
        real_number(self.limit, "limit")
        for name in ("luma", "chroma"):
            checked_strength(getattr(self, name), f"strength of {name}")


@dataclasses.dataclass(frozen=True)
class Restored:
    """The result for one file.

    Attributes:
      size: (width, height) of the result.
      level: the level that it was restored at.
      estimate: how the level was found, if it was estimated.
      notes: short notes on what could not be kept unchanged.
    """

    size: tuple[int, int]
    level: Level
    estimate: str | None = None
    notes: tuple[str, ...] = ()


def enlarged_alpha(
    alpha: np.ndarray, size: tuple[int, int], factor: float, window: tuple[slice, slice]
) -> np.ndarray:
    """Enlarges transparency like the pixels.

    Args:
      alpha: (H, W, 1), uint8, uint16 or floats in [0, 1].
      size: height and width of the enlargement.
      factor: of the enlargement.
      window: what is wanted of it.

    Returns:
      The window, (h, w, 1), of the same dtype.
    """
    enlarged = bicubic_resize(alpha, factor, size=size, window=window)
    if alpha.dtype.kind == "u":
        enlarged = np.round(enlarged)
    return np.clip(enlarged, 0, unit_of(alpha.dtype)).astype(alpha.dtype)


def _alpha_of_size(alpha: np.ndarray, size: tuple[int, int], factor: float) -> np.ndarray:
    enlarged = np.empty((*size, 1), alpha.dtype)
    for top in range(0, size[0], 256):  # because all at once needs much memory
        rows = slice(top, min(top + 256, size[0]))
        enlarged[rows] = enlarged_alpha(alpha, size, factor, (rows, slice(0, size[1])))
    return enlarged


def visible_everywhere(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """The pixels with the nearest visible colour where nothing is visible.

    What programs store there, mostly black, would reach visible pixels at the edge.
    """
    if alpha is None or alpha.min() > 0 or alpha.max() == 0:
        return pixels
    import scipy.ndimage  # slow to import

    places = scipy.ndimage.distance_transform_edt(
        alpha[..., 0] == 0, return_distances=False, return_indices=True
    )
    return pixels[tuple(places)]


def _restored(
    restorer: Restorer,
    pixels: np.ndarray,
    level: Level,
    blend: float,
    strengths: tuple[float, float],
    mask: np.ndarray | None,
    progress: Progress | None,
) -> np.ndarray:
    """Restores the pixels, with separate strengths for luminance and colour."""

    def taken(strength: float) -> Level | np.ndarray:
        scaled = restorer.space.scaled(level, strength)
        return scaled if mask is None else level_map(scaled, mask)

    shares = blend if mask is None else blend_of_mask(mask, blend)
    luma, chroma = strengths
    if restorer.model.task.enlarges and strengths != (1.0, 1.0):
        raise UserError(
            "Luminance and colour cannot be enlarged differently; leave luma and chroma out."
        )
    if restorer.space.only is not None and strengths != (1.0, 1.0):
        raise UserError("This network serves only one level; leave luma and chroma out.")
    if restorer.space.only is not None and mask is not None:
        raise UserError("This network serves only one level; leave the mask out.")
    if luma == 0 and (chroma == 0 or pixels.shape[-1] == 1):
        return pixels.copy()
    if luma == chroma or pixels.shape[-1] == 1:
        return restorer.restore(pixels, level=taken(luma), blend=shares, progress=progress)

    # At its neutral level the network still changes a degraded image.
    needed = [strength for strength in strengths if strength]

    def part(number: int) -> Progress | None:
        """Progress of one of the restorations that are needed."""
        if progress is None:
            return None
        return lambda done, of: progress((number * of + done) // len(needed), of)

    made = [
        restorer.restore(
            pixels, level=taken(strength), blend=shares, progress=part(needed.index(strength))
        )
        if strength
        else pixels
        for strength in strengths
    ]
    return luma_with_chroma(*made)


def restore_photograph(
    restorer: Restorer,
    photograph: Photograph,
    *,
    level: Level,
    blend: float = 1.0,
    luma: float = 1.0,
    chroma: float = 1.0,
    mask: np.ndarray | None = None,
    progress: Progress | None = None,
) -> Photograph:
    """Restores the pixels, enlarges transparency if necessary, and keeps the metadata.

    Args:
      mask: (H, W), or (H, W, A) for each part, in [0, 1]: the share of the level at each pixel;
        None: the full level everywhere.

    Raises:
      UserError: for luma, chroma or a mask if the task enlarges.
    """
    alpha = photograph.alpha
    visible = visible_everywhere(photograph.pixels, alpha)
    pixels = _restored(restorer, visible, level, blend, (luma, chroma), mask, progress)
    height, width = pixels.shape[:2]
    factor = restorer.model.task.factor(level)
    if alpha is not None and factor is not None:
        alpha = _alpha_of_size(alpha, (height, width), factor)
    elif alpha is not None:
        pixels = np.where(alpha > 0, pixels, photograph.pixels)
    metadata = photograph.metadata.of_size(width, height)
    return Photograph(pixels, alpha, metadata, photograph.notes)


def exists_already(source: Path, output: Path) -> bool:
    """Whether the output exists; raises `UserError` if it is the input itself."""
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"The output {output} is the input itself; choose another name.")
    return os.path.lexists(output)


def check_output(source: Path, output: Path, *, overwrite: bool) -> None:
    """As `files.check_output`, and refuses to overwrite the input."""
    exists_already(source, output)
    files.check_output(output, overwrite=overwrite)


def comparison_name(output: Path) -> Path:
    """The path of the side-by-side comparison for an output."""
    return output.with_name(f"{output.stem}-compare.png")


def restore_file(
    restorer: Restorer,
    source: str | Path,
    output: str | Path,
    options: Options | None = None,
    *,
    level: Any = None,
    overwrite: bool = False,
    limit: float = DEFAULT_LIMIT,
    progress: Progress | None = None,
) -> Restored:
    """Restores one image file into another.

    Orientation is applied; transparency, 16 bits, colour profile, EXIF and XMP are
    kept; grey stays grey. The suffix of `output` determines its format.

    Args:
      restorer: restores the pixels.
      source: the input file.
      output: the file to write; it appears only when it is complete.
      options: all options; excludes `level`, `overwrite` and `limit`.
      level: as `LevelSpace.request` takes it, including "auto".
      overwrite: replace an existing output.
      limit: the largest input, in megapixels.
      progress: as in `Restorer.restore`.

    Raises:
      UserError: if the level is not valid, the input unreadable or the output unwritable. Nothing
        is written then.
    """
    if not isinstance(restorer, Restorer):
        raise UserError(f"{restorer!r} is not a Restorer; use Restorer.from_pretrained.")
    source, output = local_path(source), local_path(output)
    if options is not None and not isinstance(options, Options):
        raise UserError(f"{options!r} is not an Options; give Options(level, ...).")
    if options is None:
        if level is None:
            raise UserError(f"Give a level: {restorer.space.with_article()}.")
        options = Options(level, overwrite=overwrite, limit=limit)
    elif level is not None or overwrite or limit != DEFAULT_LIMIT:
        raise UserError(
            "Both options and level, overwrite or limit are given; put all of them into options."
        )
    form = format_of(output)
    options.encoding.check(form)
    outputs = [output, comparison_name(output)] if options.compare else [output]
    for path in outputs:
        check_output(source, path, overwrite=options.overwrite)
    files.refuse_inputs(outputs, mask_files(options.level_map))
    photograph = read_photograph(source, limit=options.limit)
    if (
        photograph.alpha is not None
        and np.all(photograph.alpha == unit_of(photograph.alpha.dtype))
        and not can_be_transparent(form)
    ):
        photograph = dataclasses.replace(photograph, alpha=None)
    options.encoding.check(form, transparent=photograph.alpha is not None)
    found, estimate = resolve_level(
        restorer.model.task,
        options.level,
        photograph.pixels,
        source,
        estimator=options.estimator,
    )
    mask = None
    if options.level_map is not None:
        size = photograph.pixels.shape[:2]
        mask = read_masks(options.level_map, restorer.space, size, limit=options.limit)
    size = restorer.restored_size(photograph.pixels.shape[:2], found)
    options.encoding.check(form, size=size)
    restored = restore_photograph(
        restorer,
        photograph,
        level=found,
        blend=options.blend,
        luma=options.luma,
        chroma=options.chroma,
        mask=mask,
        progress=progress,
    )
    if not options.compare:
        # Frees memory for the encoder.
        del photograph
    content, notes = options.encoding.encode(restored, form)
    if options.compare:
        sheet = side_by_side(restorer.model.task, photograph, restored, found)
        # Written before the result, whose existence marks the file as done.
        files.write_atomically(outputs[1], sheet, overwrite=options.overwrite)
    files.write_atomically(output, content, overwrite=options.overwrite)
    height, width = restored.pixels.shape[:2]
    return Restored((width, height), found, estimate, (*restored.notes, *notes))
