"""Image files in, image files out."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hypernet_jax.data.images import open_image, sample_bits
from hypernet_jax.degradations import bicubic_resize
from hypernet_jax.errors import UserError
from hypernet_jax.files import write_atomically
from hypernet_jax.restoration.restorer import Restorer

__all__ = ["encode", "output_format", "restore_file"]

_FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}


@dataclasses.dataclass(frozen=True)
class _Photograph:
    """A file's pixels: colour or grey uint8 (H, W, C), and its transparency (H, W, 1) or None."""

    pixels: np.ndarray
    alpha: np.ndarray | None
    profile: bytes | None


def output_format(path: Path) -> str:
    """Pillow's name of the format that a file name asks for."""
    if path.suffix.lower() not in _FORMATS:
        raise UserError(
            f"The output {path} has no known ending; choose one of {', '.join(_FORMATS)}."
        )
    return _FORMATS[path.suffix.lower()]


def _read(path: Path) -> _Photograph:
    picture = open_image(path)
    if sample_bits(path) > 8:
        raise UserError(
            f"The image {path} has more than 8 bits per channel, which is not supported yet; "
            "convert it to 8 bits first."
        )
    frames = getattr(picture, "n_frames", 1)
    if frames > 1:
        raise UserError(
            f"The image {path} has {frames} frames or pages; only still images can be "
            "restored: save one of them as a file."
        )
    profile = picture.info.get("icc_profile")
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "CMYK":
        raise UserError(f"The image {path} is CMYK; convert it to RGB first.")
    transparent = picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info
    grey = picture.mode in ("1", "L", "LA")
    if transparent:
        picture = picture.convert("LA" if grey else "RGBA")
    else:
        picture = picture.convert("L" if grey else "RGB")
    pixels = np.asarray(picture)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if transparent:
        return _Photograph(pixels[..., :-1], pixels[..., -1:], profile)
    return _Photograph(pixels, None, profile)


def encode(photograph: _Photograph, path: Path) -> bytes:
    """The photograph in the format that the name of `path` asks for."""
    form = output_format(path)
    pixels = photograph.pixels
    if photograph.alpha is not None:
        if form in ("JPEG", "BMP"):
            raise UserError(
                f"The input is transparent, which {form} cannot keep; "
                f"write {path.with_suffix('.png').name} instead."
            )
        pixels = np.concatenate([pixels, photograph.alpha], axis=-1)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    options: dict = {"icc_profile": photograph.profile} if photograph.profile else {}
    if form == "JPEG":
        options |= (
            {"quality": 95, "subsampling": "4:4:4"} if pixels.shape[-1] == 3 else {"quality": 95}
        )
    elif form == "WEBP":
        options["lossless"] = True
    stream = io.BytesIO()
    try:
        picture.save(stream, form, **options)
    except (OSError, ValueError) as error:
        raise UserError(
            f"A picture of {picture.width}x{picture.height} pixels cannot be written as {form} "
            f"({error}); choose another format, such as .png."
        ) from None
    return stream.getvalue()


def restore_file(
    restorer: Restorer, source: Path, output: Path, *, level: float, overwrite: bool = False
) -> tuple[int, int]:
    """Restores one image file into another; returns (width, height) of the result.

    Orientation is applied, transparency and the colour profile are kept, grey stays grey.

    Raises:
      UserError: one sentence, for a bad level, an unreadable input or an unwritable output.
        Nothing is written then.
    """
    output_format(output)
    if output.exists() and not overwrite:
        raise UserError(f"The output {output} already exists; choose another or pass --overwrite.")
    photograph = _read(source)
    pixels = restorer.restore(photograph.pixels, level=level)
    alpha = photograph.alpha
    if alpha is not None and alpha.shape[:2] != pixels.shape[:2]:
        resized = bicubic_resize(alpha, float(level), size=pixels.shape[:2])
        alpha = np.clip(np.round(resized), 0, 255).astype(np.uint8)
    restored = _Photograph(pixels, alpha, photograph.profile)
    write_atomically(output, encode(restored, output), overwrite=overwrite)
    return pixels.shape[1], pixels.shape[0]
