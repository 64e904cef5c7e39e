"""Image statistics that reveal noise, compression and blur.

Quantiles of the Laplacian energy of blocks, at three scales, in luminance and chrominance: flat
blocks show the noise, sharp ones the blur. Steps at the borders of JPEG blocks, and the shares of
small DCT coefficients, show the compression.
"""

import numpy as np
import scipy.fft
from jaxtyping import Float32, Real

__all__ = [
    "BANDS",
    "BLOCK",
    "PLANES",
    "QUANTILES",
    "SCALES",
    "SMALL",
    "block_energies",
    "blocks_of",
    "statistics",
]

SCALES = 3
QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
BLOCK = 8
# Frequency bands: ranges of the sum of a DCT coefficient's two indices, from low to high.
BANDS = ((1, 2), (3, 4), (5, 6), (7, 9), (10, 14))
# Thresholds for small coefficients.
SMALL = (0.5, 2.0)
# From RGB to Y, Cb and Cr.
PLANES = np.array(
    [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32
)
# Smaller images are padded symmetrically to this size.
_SMALLEST = 64


def _planes(pixels: Real[np.ndarray, "h w c"]) -> Real[np.ndarray, "3 h w"]:
    """Y, Cb and Cr, (3, H, W); Cb and Cr are zero for grey images."""
    if pixels.shape[-1] == 1:
        grey = pixels[..., 0]
        return np.stack([grey, np.zeros_like(grey), np.zeros_like(grey)])
    return np.moveaxis(pixels @ PLANES.T, -1, 0)


def _halved(planes: Real[np.ndarray, "c h w"]) -> Real[np.ndarray, "c h2 w2"]:
    height, width = (length // 2 * 2 for length in planes.shape[1:])
    even = planes[:, :height, :width]
    return (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4


def blocks_of(planes: Real[np.ndarray, "c h w"]) -> Real[np.ndarray, "c blocks 8 8"]:
    """Splits planes into blocks from the top left, (C, blocks, 8, 8)."""
    count, height, width = planes.shape
    rows, columns = height // BLOCK, width // BLOCK
    cut = planes[:, : rows * BLOCK, : columns * BLOCK]
    cut = cut.reshape((count, rows, BLOCK, columns, BLOCK)).swapaxes(2, 3)
    return cut.reshape((count, rows * columns, BLOCK, BLOCK))


def block_energies(planes: Real[np.ndarray, "c h w"]) -> Real[np.ndarray, "c blocks"]:
    """Mean square of the Laplacian in blocks, (C, blocks); for white noise, its variance."""
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)), mode="edge")
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return blocks_of(np.square(4 * planes - around) / 20.0).mean(axis=(-2, -1))


def _steps(planes: np.ndarray, period: int) -> list[np.ndarray]:
    """Log ratio of the steps at multiples of a period to the others, along each axis; (C,) each."""
    found = []
    for axis in (1, 2):
        differences = np.abs(np.diff(planes, axis=axis)).mean(axis=3 - axis)
        at = np.arange(differences.shape[1]) % period == period - 1
        border, others = differences[:, at].mean(axis=1), differences[:, ~at].mean(axis=1)
        found.append(np.log((border + 0.05) / (others + 0.05)))
    return found


def _small_coefficients(planes: np.ndarray) -> list[np.ndarray]:
    """The share of small coefficients for each band and threshold, in that order; (C,) each."""
    size = np.abs(scipy.fft.dctn(blocks_of(planes), axes=(-2, -1), norm="ortho"))
    sums = np.add.outer(np.arange(BLOCK), np.arange(BLOCK))
    bands = [size[..., (sums >= low) & (sums <= high)] for low, high in BANDS]
    return [(band < end).mean(axis=(1, 2)) for band in bands for end in SMALL]


def statistics(pixels: Real[np.ndarray, "h w c"]) -> Float32[np.ndarray, " f"]:
    """The statistics of an image, float32 (F,).

    Args:
      pixels: (H, W, C) in 0..255, C = 3 or 1; the top left is the corner of a 16-pixel block.
    """
    pixels = np.asarray(pixels, np.float32)
    missing = [(0, max(0, _SMALLEST - length)) for length in pixels.shape[:2]]
    planes = _planes(np.pad(pixels, (*missing, (0, 0)), mode="symmetric"))
    found: list[np.ndarray] = []
    scaled = planes
    for _ in range(SCALES):
        energies = block_energies(scaled)
        quantiles = np.quantile(energies, QUANTILES, axis=1)
        found += [np.log(quantile + 0.02) / 2 for quantile in quantiles]
        # The noise of dark, medium and bright blocks, because camera noise depends on the light.
        light = blocks_of(scaled)[0].mean(axis=(-2, -1))
        thirds = np.array_split(np.argsort(light, kind="stable"), 3)
        for third in thirds:
            low = np.quantile(energies[:, third], (0.1, 0.3), axis=1)
            found.append(np.log(low + 0.02) / 2)
            found.append(light[third].mean(keepdims=True) / 64.0)
        found.append(light.std(keepdims=True) / 64.0)
        scaled = _halved(scaled)
    found += _steps(planes, 8) + _steps(planes, 16)
    found += _small_coefficients(planes)
    # JPEG halves the resolution of chrominance.
    found += [shares[1:] for shares in _small_coefficients(_halved(planes))]
    return np.concatenate([np.ravel(each) for each in found]).astype(np.float32)
