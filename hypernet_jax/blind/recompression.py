"""The quality of a JPEG image, from its pixels alone.

The DCT coefficients of an image that was compressed lie near multiples of its quantisation steps.
Quantised again at that quality they hardly change, but they do at neighbouring qualities (Farid,
"Exposing digital forgeries from JPEG ghosts", TIFS 2009), and so do those of a shifted grid.
"""

import numpy as np
import scipy.fft
from jaxtyping import Float, Real

from hypernet_jax.degradations.jpeg import quantisation_tables
from hypernet_jax.images.channels import LUMA

__all__ = ["quality_of_pixels"]

_BLOCK = 8
_MOST = 1024  # blocks to analyse
_FEWEST = 4
# Flatter blocks say nothing: their few coefficients fit many steps by chance.
_LEAST_DEVIATION = 1.0
# Clipped pixels change the coefficients, so such blocks count only if there are fewer others.
_ENOUGH, _CLIPPED_SHARE = 64, 0.25
# Added to the mean squared change, about what rounding to 8 bits does to luminance.
_FLOOR = 0.02
# Least dip of the logarithm of the change, and what it is larger by for a single block. Of 59
# photographs that were never compressed none has a deeper dip, and one of 177 crops of 64x64.
_SHALLOWEST, _FOR_ONE = 0.3, 3.0


def _blocks(pixels: Real[np.ndarray, "h w c"]) -> Float[np.ndarray, "n 8 8"]:
    """Blocks of luminance that have texture, spread over the image."""
    height, width = (length // _BLOCK * _BLOCK for length in pixels.shape[:2])
    pixels = pixels[:height, :width]

    def cut(plane):
        rows = plane.reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
        return rows.swapaxes(1, 2).reshape(-1, _BLOCK, _BLOCK)

    blocks = cut(pixels @ LUMA if pixels.shape[-1] == 3 else pixels[..., 0])
    clipped = cut(((pixels <= 0) | (pixels >= 255)).any(axis=-1)).mean(axis=(1, 2))
    textured = blocks.std(axis=(1, 2)) > _LEAST_DEVIATION
    chosen = textured & (clipped == 0)
    if chosen.sum() < _ENOUGH:
        chosen = textured & (clipped <= _CLIPPED_SHARE)
    places = np.flatnonzero(chosen)
    if len(places) > _MOST:
        places = places[np.linspace(0, len(places) - 1, _MOST).astype(int)]
    return blocks[places]


def _dips(blocks: Float[np.ndarray, "n 8 8"]) -> Float[np.ndarray, "100"]:
    """How much less each quality changes the blocks than its neighbours do, as a logarithm."""
    found = scipy.fft.dctn(blocks - 128.0, axes=(1, 2), norm="ortho").reshape(len(blocks), -1)
    changes = []
    for quality in range(1, 101):
        steps = np.asarray(quantisation_tables(quality)[0], found.dtype)
        changes.append(np.mean(np.square(found - steps * np.round(found / steps))))
    depth = np.pad(np.log(np.asarray(changes) + _FLOOR), 3, constant_values=np.nan)
    around = np.nanmedian([depth[k : k + 100] for k in (0, 1, 2, 4, 5, 6)], axis=0)
    return around - depth[3:-3]


def quality_of_pixels(pixels: Real[np.ndarray, "h w c"]) -> float | None:
    """Finds the quality at which an image was compressed, whatever its chroma subsampling.

    Of several compressions, the strongest one that still shows.

    Args:
      pixels: (H, W, C) in 0..255, C = 3 or 1; the top left is the corner of a block. Not
        resized since then, nor cropped within a block.

    Returns:
      The quality, 1 to 99 on libjpeg's scale (1 may be taken for 2), or None if there is no
      trace of compression: it never happened, was at 100, or the image has too little texture.
    """
    pixels = np.asarray(pixels, np.float32)
    aligned, shifted = _blocks(pixels), _blocks(pixels[_BLOCK // 2 :, _BLOCK // 2 :])
    count = min(len(aligned), len(shifted))
    if count < _FEWEST:
        return None
    dips = _dips(aligned) - _dips(shifted)
    best = int(np.argmax(dips))
    return float(best + 1) if dips[best] >= _SHALLOWEST + _FOR_ONE / count**0.5 else None
