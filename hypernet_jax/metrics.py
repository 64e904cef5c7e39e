"""Image quality metrics: PSNR, SSIM, PSNR-B, and the Y channel.

Images are (H, W, C) in 8-bit range, 0 to 255, C = 1 or 3. An image and its reference must
have the same shape; otherwise the metrics raise `UserError`.
"""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float64, Real

from hypernet_jax.errors import UserError

__all__ = ["psnr", "psnr_b", "rgb_to_y", "ssim"]


def rgb_to_y(image: Real[ArrayLike, "*n c"]) -> Float64[np.ndarray, "*n 1"]:
    """Studio-range BT.601 luma, 16 to 235, rounded: (..., 3) -> (..., 1), float64.

    Rounded to 8 bits, like MATLAB's `rgb2ycbcr` for 8-bit images and hence
    the literature; unrounded luma gives up to 0.04 dB more.
    """
    weights = np.array([65.481, 128.553, 24.966]) / 255.0
    image = np.asarray(image, np.float64)
    if image.shape[-1:] != (3,):
        raise UserError(f"An image of shape {image.shape} has no luma; give RGB in the last axis.")
    return np.round(image @ weights[:, None] + 16.0)


def psnr(image, reference) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 255; inf for equal images."""
    return _decibels(_mse(image, reference))


def ssim(image, reference) -> float:
    """Structural similarity (Wang et al. 2004), 11x11 Gaussian window, sigma 1.5, valid region.

    Returns nan for images smaller than the window.
    """
    image, reference = _pair(image, reference, axes=3)
    if min(image.shape[:2]) < 11:
        return float("nan")
    from skimage.metrics import structural_similarity  # slow to import

    return float(
        structural_similarity(
            image,
            reference,
            data_range=255.0,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def psnr_b(image, reference) -> float:
    """PSNR with a penalty for 8x8 blocking (Yim and Bovik, TIP 2011); mean error over channels."""
    image, reference = _pair(image, reference, axes=3)
    error = _mse(image, reference) + np.mean(
        [_blocking_effect(image[..., channel]) for channel in range(image.shape[-1])]
    )
    return _decibels(float(error))


def _pair(
    image, reference, *, axes: int | None = None
) -> tuple[Float64[np.ndarray, "*n"], Float64[np.ndarray, "*n"]]:
    image, reference = np.asarray(image, np.float64), np.asarray(reference, np.float64)
    if image.shape != reference.shape:
        # NumPy would broadcast an array that lacks an axis.
        raise UserError(
            f"An image of shape {image.shape} cannot be compared with a reference of shape "
            f"{reference.shape}; give both as (height, width, channels)."
        )
    if axes is not None and image.ndim != axes:
        raise UserError(
            f"Images of shape {image.shape} cannot be compared; give (height, width, channels)."
        )
    return image, reference


def _mse(image, reference) -> float:
    image, reference = _pair(image, reference)
    return float(np.mean((image - reference) ** 2))


def _decibels(mse: float) -> float:
    return float("inf") if mse == 0.0 else float(10.0 * np.log10(255.0**2 / mse))


def _blocking_effect(plane: Float64[np.ndarray, "h w"], block: int = 8) -> float:
    """Weighted excess of squared steps across block borders over those elsewhere."""
    height, width = plane.shape
    if max(height, width) <= block or min(height, width) < 2:
        return 0.0  # no block border, or no second dimension for the weight
    across, down = np.diff(plane, axis=1) ** 2, np.diff(plane, axis=0) ** 2
    border_columns = np.arange(block - 1, width - 1, block)
    border_rows = np.arange(block - 1, height - 1, block)
    border_sum = across[:, border_columns].sum() + down[border_rows].sum()
    border_count = height * border_columns.size + width * border_rows.size
    other_sum = across.sum() + down.sum() - border_sum
    other_count = across.size + down.size - border_count
    excess = border_sum / border_count - other_sum / other_count
    if excess <= 0.0:
        return 0.0
    return float(np.log2(block) / np.log2(min(height, width)) * excess)
