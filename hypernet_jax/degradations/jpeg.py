"""JPEG compression with libjpeg (through Pillow), at any real quality."""

import functools
import io

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, Key, Real
from PIL import Image

from hypernet_jax.degradations.host import each_with_generator

__all__ = ["cropped_jpeg", "jpeg", "quantisation_tables"]

# Share of images that `cropped_jpeg` crops, and the side of a block of 4:2:0 chrominance.
_CROPPED_SHARE = 0.25
_BLOCK = 16


@functools.cache
def _standard_tables() -> tuple[np.ndarray, np.ndarray]:
    """Luminance and chrominance tables of the JPEG standard, in natural order."""
    # At quality 50 libjpeg scales its tables by exactly 100 %.
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=50)
    tables = Image.open(stream).quantization  # type: ignore[attr-defined]
    return np.asarray(tables[0], np.float64), np.asarray(tables[1], np.float64)


def quantisation_tables(quality: float) -> list[list[int]]:
    """libjpeg's two tables for a real quality from 1 to 100.

    At an integer they equal libjpeg's own tables.
    """
    percent = 5000.0 / quality if quality < 50 else 200.0 - 2.0 * quality
    # libjpeg truncates the percentage to an integer; fractional qualities must not be truncated.
    if float(quality).is_integer():
        percent = np.floor(percent)
    return [
        np.clip(np.floor((table * percent + 50.0) / 100.0), 1, 255).astype(int).tolist()
        for table in _standard_tables()
    ]


def jpeg(key, image: Real[ArrayLike, "*n h w c"], quality) -> Float32[np.ndarray, "*n h w c"]:
    """Compresses and decodes an image.

    Args:
      key: unused; JPEG is deterministic.
      image: (..., H, W, C), whole numbers from 0 to 255, C = 3 (compressed as 4:2:0 YCbCr) or 1
        (grey).
      quality: 1 to 100 on libjpeg's scale; fractions are allowed.

    Returns:
      float32 of the image's shape, whole numbers.

    Raises:
      ValueError: if the values are not whole numbers; `quantise` rounds them.
    """
    del key
    image = np.asarray(image)
    if image.ndim > 3:
        return np.stack([jpeg(None, one, quality) for one in image])
    bytes_of_image = image.astype(np.uint8)
    if not np.array_equal(bytes_of_image, image):
        raise ValueError("JPEG files hold 8 bits; quantise the image first.")
    grey = image.shape[-1] == 1
    tables = quantisation_tables(float(quality))
    stream = io.BytesIO()
    picture = Image.fromarray(bytes_of_image[..., 0] if grey else bytes_of_image)
    if grey:
        picture.save(stream, "JPEG", qtables=tables[:1])
    else:
        picture.save(stream, "JPEG", qtables=tables, subsampling="4:2:0")
    decoded = np.asarray(Image.open(stream), np.float32)
    return decoded[..., None] if grey else decoded


def cropped_jpeg(
    key: Key[Array, ""], image: Real[ArrayLike, "*n h w c"], quality
) -> Float32[np.ndarray, "*n h w c"]:
    """As `jpeg`, but a quarter of the images are cropped afterwards, inside their first block.

    Args:
      key: PRNG key of the crop.
      image, quality: as for `jpeg`. A cropped image is mirrored at its top and left beforehand.
    """

    def compressed(rng: np.random.Generator, one: np.ndarray) -> np.ndarray:
        if rng.random() >= _CROPPED_SHARE:
            return jpeg(None, one, quality)
        top, left = rng.integers(0, _BLOCK, 2)
        larger = np.pad(one, ((top, 0), (left, 0), (0, 0)), mode="symmetric")
        return jpeg(None, larger, quality)[top:, left:]

    return each_with_generator(compressed, key, image)
