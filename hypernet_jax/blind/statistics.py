"""Image statistics that reveal noise, compression and blur, for every cell of 16x16 pixels.

Energies of the discrete cosine transform (DCT) of blocks, by frequency and orientation, at three
scales, in luminance and chrominance: noise has no orientation, texture does. Steps at the borders
of JPEG blocks, and the shares of small DCT coefficients, show the compression.
"""

import numpy as np
import scipy.fft
from jaxtyping import Float, Float32, Real
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["BLOCK", "CELL", "ORIENTED", "PLANES", "RADIAL", "SMALL", "TRANSFORM", "statistics"]

BLOCK, CELL = 8, 16
# From RGB to Y, Cb and Cr.
PLANES = np.array(
    [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32
)
# Thresholds for small coefficients; not such as whole numbers of grey levels give exactly.
SMALL = (0.47, 1.93)
# Smaller images are padded symmetrically to this size.
_SMALLEST = 64

_DCT = scipy.fft.dct(np.eye(BLOCK), axis=0, norm="ortho")
# From the pixels of a block to its coefficients, both flattened: (64, 64).
TRANSFORM = np.einsum("ai,bj->abij", _DCT, _DCT).reshape(BLOCK**2, BLOCK**2).astype(np.float32)


def _bands(ends: tuple[tuple[int, int], ...], *, oriented: bool) -> Float32[np.ndarray, "64 bands"]:
    """Weights that average the coefficients of each band.

    Args:
      ends: for each band, the range of the sum of a coefficient's two indices.
      oriented: splits each band into mostly vertical, mostly horizontal and other frequencies;
        the lowest into the first two.
    """
    rows, columns = np.divmod(np.arange(BLOCK**2), BLOCK)
    chosen = []
    for low, high in ends:
        band = (rows + columns >= low) & (rows + columns <= high)
        if not oriented:
            chosen.append(band)
        elif high == 1:
            chosen += [band & (rows > columns), band & (columns > rows)]
        else:
            vertical, horizontal = rows > 2 * columns, columns > 2 * rows
            chosen += [band & vertical, band & horizontal, band & ~vertical & ~horizontal]
    weights = np.stack(chosen).astype(np.float32)
    return (weights / weights.sum(axis=1, keepdims=True)).T


ORIENTED = _bands(((1, 1), (2, 3), (4, 5), (6, 8), (9, 14)), oriented=True)
RADIAL = _bands(((1, 2), (3, 4), (5, 6), (7, 9), (10, 14)), oriented=False)


def _planes(pixels: Real[np.ndarray, "h w c"]) -> Real[np.ndarray, "3 h w"]:
    """Y, Cb and Cr; Cb and Cr are zero for grey images."""
    if pixels.shape[-1] == 1:
        grey = pixels[..., 0]
        return np.stack([grey, np.zeros_like(grey), np.zeros_like(grey)])
    return np.moveaxis(pixels @ PLANES.T, -1, 0)


def _halved(planes: Real[np.ndarray, "c h w"]) -> Real[np.ndarray, "c h2 w2"]:
    both = planes[:, ::2] + planes[:, 1::2]
    return (both[..., ::2] + both[..., 1::2]) / 4


def _coefficients(
    planes: Real[np.ndarray, "c h w"], stride: int, padding: int = 0
) -> Real[np.ndarray, "c rows columns 64"]:
    """DCT coefficients of the blocks that begin at multiples of the stride."""
    around = ((0, 0), (padding, padding), (padding, padding))
    padded = np.pad(planes, around, mode="edge")
    blocks = sliding_window_view(padded, (BLOCK, BLOCK), axis=(1, 2))[:, ::stride, ::stride]
    return blocks.reshape((*blocks.shape[:3], BLOCK**2)) @ TRANSFORM.T


def _in_fours(blocks: Real[np.ndarray, "c h w f"]) -> Real[np.ndarray, "c h2 w2 4 f"]:
    """The four blocks of each cell."""
    c, h, w, f = blocks.shape
    cut = blocks.reshape((c, h // 2, 2, w // 2, 2, f)).swapaxes(2, 3)
    return cut.reshape((c, h // 2, w // 2, 4, f))


def _log(energies: np.ndarray) -> np.ndarray:
    return np.log(energies + 0.02) / 2


def _steps(planes: Real[np.ndarray, "c h w"], axis: int) -> Float[np.ndarray, "c rows columns 2"]:
    """Log ratio of the steps after pixels 7 and 15 of each cell to the others, along an axis."""
    along = planes if axis == 1 else planes.swapaxes(1, 2)
    steps = np.abs(np.diff(along, axis=1, append=along[:, -1:]))
    c, h, w = steps.shape
    means = steps.reshape((c, h // CELL, CELL, w // CELL, CELL)).mean(axis=4)
    at = np.arange(CELL) % BLOCK == BLOCK - 1
    border, others = means[:, :, at], means[:, :, ~at].mean(axis=2, keepdims=True)
    found = np.moveaxis(np.log((border + 0.05) / (others + 0.05)), 2, -1)
    return found if axis == 1 else found.swapaxes(1, 2)


def statistics(pixels: Real[np.ndarray, "h w c"]) -> Float32[np.ndarray, "rows columns f"]:
    """The statistics of each cell of 16x16 pixels.

    Args:
      pixels: (H, W, C) in 0..255, C = 3 or 1; the top left is the corner of a 16-pixel block.
        Padded symmetrically to whole cells, and to at least four along each axis.
    """
    pixels = np.asarray(pixels, np.float32)
    missing = [(0, max(_SMALLEST - length, -length % CELL)) for length in pixels.shape[:2]]
    planes = _planes(np.pad(pixels, (*missing, (0, 0)), mode="symmetric"))
    halved = _halved(planes)
    fine, coarse = _coefficients(planes, BLOCK), _coefficients(halved, BLOCK)
    coarsest = _coefficients(_halved(halved), BLOCK // 2, BLOCK // 4)
    energies = _in_fours(np.square(fine) @ ORIENTED)
    found = [_log(energies.mean(axis=3)), _log(energies.min(axis=3))]
    size = np.abs(fine)
    found += [_in_fours((size < end) @ RADIAL).mean(axis=3) for end in SMALL]
    found += [_steps(planes, axis) for axis in (1, 2)]
    found.append(_log(np.square(coarse) @ ORIENTED))
    # JPEG halves the resolution of chrominance.
    size = np.abs(coarse[1:])
    found += [(size < end) @ RADIAL for end in SMALL]
    found.append(_log(np.square(coarsest) @ ORIENTED))
    c, h, w = planes.shape
    means = planes.reshape((c, h // CELL, CELL, w // CELL, CELL)).mean(axis=(2, 4))
    found.append(means[..., None] / 64)
    flat = [np.moveaxis(each, 0, 2).reshape((*each.shape[1:3], -1)) for each in found]
    return np.concatenate(flat, axis=-1).astype(np.float32)
