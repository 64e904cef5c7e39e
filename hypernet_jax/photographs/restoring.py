"""Image files in, image files out."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from hypernet_jax import files
from hypernet_jax.degradations import bicubic_resize
from hypernet_jax.errors import UserError, real_number
from hypernet_jax.files import local_path
from hypernet_jax.images.reading import DEFAULT_LIMIT, Photograph, read_photograph
from hypernet_jax.images.writing import Encoding, format_of
from hypernet_jax.inference.requests import Estimator, resolve_level
from hypernet_jax.inference.restorer import Progress, Restorer
from hypernet_jax.inference.sources import unit_of
from hypernet_jax.levels import Level, checked_strength
from hypernet_jax.photographs.level_maps import Masks, blend_of_mask, level_map, read_masks
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
    """What is done to a file.

    Attributes:
      level: how degraded the image is, as `LevelSpace.request` takes it: "auto" estimates it.
      blend: how much of the restored image to take, 0 to 1.
      encoding: how the output is written.
      overwrite: replace an existing output.
      compare: also write input and result side by side, beside the output.
      limit: megapixels that an input may have.
      estimator: what `AUTO` asks instead of the task's own way, such as
        `LevelEstimator.estimate`.
      level_map: a mask file, of the image's proportions: white takes the level in full, black
        none; or such files by the names of parts of the level.
      luma, chroma: how strongly luminance and colour are restored, as shares of the level: 0 not
        at all, 1 as the level says, 2 for twice of it.
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
            raise UserError(f"{self.encoding!r} is no Encoding; give Encoding(quality).")
        if self.estimator is not None and not callable(self.estimator):
            raise UserError(f"The estimator {self.estimator!r} cannot be called.")
        real_number(self.blend, "blend")
        real_number(self.limit, "limit")
        for name in ("luma", "chroma"):
            checked_strength(getattr(self, name), f"strength of {name}")


@dataclasses.dataclass(frozen=True)
class Restored:
    """What became of one file.

    Attributes:
      size: (width, height) of the result.
      level: that it was restored at.
      estimate: how the level was found, if it was estimated.
      notes: half-sentences on what could not be kept as it was.
    """

    size: tuple[int, int]
    level: Level
    estimate: str | None = None
    notes: tuple[str, ...] = ()


def _alpha_of_size(alpha: np.ndarray, size: tuple[int, int], factor: float) -> np.ndarray:
    """Transparency, enlarged as the pixels are; a band of rows at a time."""
    enlarged = np.empty((*size, 1), alpha.dtype)
    white = unit_of(alpha.dtype)
    for top in range(0, size[0], 256):
        rows = slice(top, min(top + 256, size[0]))
        band = bicubic_resize(alpha, factor, size=size, window=(rows, slice(0, size[1])))
        if alpha.dtype.kind == "u":
            band = np.round(band)
        enlarged[rows] = np.clip(band, 0, white)
    return enlarged


def _restored(
    restorer: Restorer,
    pixels: np.ndarray,
    level: Level,
    blend: float,
    strengths: tuple[float, float],
    mask: np.ndarray | None,
    progress: Progress | None,
) -> np.ndarray:
    """The pixels with luminance and colour restored as strongly as they are to be."""

    def taken(strength: float) -> Level | np.ndarray:
        scaled = restorer.space.scaled(level, strength)
        return scaled if mask is None else level_map(scaled, mask)

    shares = blend if mask is None else blend_of_mask(mask, blend)
    luma, chroma = strengths
    if restorer.model.task.enlarges and strengths != (1.0, 1.0):
        raise UserError("Luminance and colour are enlarged alike; leave --luma and --chroma out.")
    if restorer.space.only is not None and strengths != (1.0, 1.0):
        raise UserError("This network serves one level; leave --luma and --chroma out.")
    if luma == chroma or pixels.shape[-1] == 1:
        return restorer.restore(pixels, level=taken(luma), blend=shares, progress=progress)

    def part(number: int) -> Progress | None:
        """Half of the progress."""
        if progress is None:
            return None
        return lambda done, of: progress((number * of + done) // 2, of)

    made = [
        restorer.restore(
            pixels,
            level=taken(strength),
            blend=shares,
            progress=part(number),
        )
        for number, strength in enumerate(strengths)
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
    """Restores the pixels, enlarges the transparency with them, keeps the rest.

    Args:
      mask: (H, W), or (H, W, A) for each part, in [0, 1]: the share of the level that each pixel
        takes; all of it if None.

    Raises:
      UserError: for luma, chroma or a mask where the task enlarges.
    """
    pixels = _restored(restorer, photograph.pixels, level, blend, (luma, chroma), mask, progress)
    height, width = pixels.shape[:2]
    alpha = photograph.alpha
    factor = restorer.model.task.factor(level)
    if alpha is not None and factor is not None:
        alpha = _alpha_of_size(alpha, (height, width), factor)
    metadata = photograph.metadata.of_size(width, height)
    return Photograph(pixels, alpha, metadata, photograph.notes)


def exists_already(source: Path, output: Path) -> bool:
    """Whether there is an output; raises `UserError` if it is the input itself."""
    if output.exists() and source.exists() and output.samefile(source):
        raise UserError(f"The output {output} is the input itself; choose another name.")
    return output.exists()


def check_output(source: Path, output: Path, *, overwrite: bool) -> None:
    """As `files.check_output`; and the input is never written over."""
    exists_already(source, output)
    files.check_output(output, overwrite=overwrite)


def comparison_name(output: Path) -> Path:
    """Where input and result are written side by side."""
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
    kept; grey stays grey. The ending of `output` tells its format.

    Args:
      restorer: of the task.
      source: the input file.
      output: the file to write; it appears only when it is complete.
      options: what to do, in full; or
      level: as `LevelSpace.request` takes it, "auto" among others, and
      overwrite: whether to replace an existing output, and
      limit: megapixels that the input may have.
      progress: as in `Restorer.restore`.

    Raises:
      UserError: one sentence, for a bad level, an unreadable input or an unwritable output.
        Nothing is written then.
    """
    if not isinstance(restorer, Restorer):
        raise UserError(f"{restorer!r} is no Restorer; use Restorer.from_pretrained.")
    source, output = local_path(source), local_path(output)
    if options is not None and not isinstance(options, Options):
        raise UserError(f"{options!r} are no Options; give Options(level, ...).")
    if options is None:
        if level is None:
            raise UserError(f"Give a level: a {restorer.space.describe()}.")
        options = Options(level, overwrite=overwrite, limit=limit)
    elif level is not None or overwrite or limit != DEFAULT_LIMIT:
        raise UserError(
            "Give options, or level, overwrite and limit, which are among them; not both."
        )
    form = format_of(output)
    options.encoding.check(form)
    outputs = [output, comparison_name(output)] if options.compare else [output]
    for path in outputs:
        check_output(source, path, overwrite=options.overwrite)
    photograph = read_photograph(source, limit=options.limit)
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
        mask = read_masks(options.level_map, restorer.space, photograph.pixels.shape[:2])
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
        # The encoder needs the room.
        del photograph
    content, notes = options.encoding.encode(restored, form)
    if options.compare:
        sheet = side_by_side(restorer.model.task, photograph, restored, found)
        # Before the result, whose presence says that nothing is left to do.
        files.write_atomically(outputs[1], sheet, overwrite=options.overwrite)
    files.write_atomically(output, content, overwrite=options.overwrite)
    height, width = restored.pixels.shape[:2]
    return Restored((width, height), found, estimate, (*restored.notes, *notes))
