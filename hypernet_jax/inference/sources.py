"""The network's input, one window at a time: the image itself, or its enlargement."""

import dataclasses

import numpy as np

from hypernet_jax.degradations import bicubic_resize

__all__ = ["Source", "unit_of"]


def unit_of(dtype: np.dtype) -> float:
    """The value of white: 255, 65535, or 1 for floats."""
    return float(np.iinfo(dtype).max) if np.issubdtype(dtype, np.integer) else 1.0


@dataclasses.dataclass(frozen=True)
class Source:
    """Images as the network sees them.

    Attributes:
      images: (N, H, W, C), uint8, uint16 or float in [0, 1].
      factor: the scale factor; None for a task that does not enlarge.
    """

    images: np.ndarray
    factor: float | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of what the network sees, and of the result."""
        height, width = self.images.shape[1:3]
        if self.factor is None:
            return height, width
        return max(1, round(height * self.factor)), max(1, round(width * self.factor))

    def read(self, image: int, rows: slice, columns: slice) -> np.ndarray:
        """A window of one image, float32 (h, w, C) in [0, 1]; it must lie inside `size`.

        An enlarged 8-bit image is rounded to 8 bits, like those that the network
        was trained on; images of higher bit depth are not rounded.
        """
        unit = np.float32(unit_of(self.images.dtype))
        if self.factor is None:
            return self.images[image, rows, columns].astype(np.float32) / unit
        window = bicubic_resize(
            self.images[image], self.factor, size=self.size, window=(rows, columns)
        )
        if self.images.dtype == np.uint8:
            window = np.round(window)
        return np.clip(window / unit, 0.0, 1.0)

    def read_padded(self, image: int, start: tuple[int, int], side: tuple[int, int]) -> np.ndarray:
        """A tile, (*side, C), padded symmetrically beyond the image.

        The padding completes an odd last row or column; whoever applies the network
        masks what lies farther out.
        """
        held = [
            slice(at, min(at + length, whole))
            for at, length, whole in zip(start, side, self.size, strict=True)
        ]
        window = self.read(image, *held)
        missing = [(0, length - n) for length, n in zip(side, window.shape, strict=False)]
        if not any(after for _, after in missing):
            return window
        return np.pad(window, (*missing, (0, 0)), mode="symmetric")
