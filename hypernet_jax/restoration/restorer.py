"""Restoring arrays with trained weights: the Python interface."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.hypernet import Theta
from hypernet_jax.levels import LevelScale
from hypernet_jax.model import Model, make_model, model_config
from hypernet_jax.weights import load_weights

__all__ = ["Restorer"]

# Generated networks that are kept; a compact one takes 0.6 MB, the published size 6 MB.
_CACHED_LEVELS = 32


class Restorer:
    """A trained hypernetwork, ready to restore images at any level.

    The network for a level is generated on first use and kept. One compiled
    program serves all levels of an image size.

    >>> restorer = Restorer.from_pretrained("denoise")
    >>> restored = restorer.restore(np.zeros((20, 31, 3), np.uint8), level=25)
    >>> restored.shape, restored.dtype
    ((20, 31, 3), dtype('uint8'))
    """

    def __init__(self, model: Model, theta: Theta):
        self.model = model
        self._generate = functools.lru_cache(_CACHED_LEVELS)(
            functools.partial(jax.jit(model.generate), theta)
        )
        self._apply = jax.jit(model.apply)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "Restorer":
        """Loads weights that the package carries, by name, or a .safetensors file."""
        return cls(*load_weights(name))

    @classmethod
    def from_workdir(cls, workdir: str | Path) -> "Restorer":
        """Loads the averaged weights of the newest checkpoint of a training run."""
        # Orbax takes seconds to import, and only training runs need it.
        from hypernet_jax.checkpoints import load_ema

        config, theta = load_ema(workdir)
        return cls(make_model(model_config(config)), theta)

    @property
    def scale(self) -> LevelScale:
        """The meaning and range of `level`."""
        return self.model.task.scale

    def apply(self, images: np.ndarray, *, level: float) -> np.ndarray:
        """Applies the network for one level, as it is: nothing is clipped or rounded.

        Args:
          images: (N, H, W, C) float in [0, 1]; C = 1 or 3. Grey images go through a
            colour network as three equal channels, whose mean is returned;
            colour images go through a grey network channel by channel.
          level: in people's units.

        Returns:
          float32 of the same shape.
        """
        params = self._generate(self.scale.check(level))
        images = np.asarray(images, np.float32)
        n, h, w, c = images.shape
        if c == self.model.colours:
            return np.asarray(self._apply(params, images))
        if c == 1:
            rgb = self._apply(params, np.repeat(images, 3, axis=-1))
            return np.asarray(jnp.mean(rgb, axis=-1, keepdims=True))
        planes = images.transpose(0, 3, 1, 2).reshape(n * c, h, w, 1)
        restored = np.asarray(self._apply(params, planes))
        return restored.reshape(n, c, h, w).transpose(0, 2, 3, 1)

    def restore(self, image: np.ndarray, *, level: float) -> np.ndarray:
        """Restores one image.

        Args:
          image: (H, W) or (H, W, C), C = 1 or 3; uint8, or float in [0, 1].
          level: how degraded it is, in the task's units: noise sigma in 8-bit grey
            levels, JPEG quality, or the factor to enlarge by.

        Returns:
          The restored image, same layout and type; for super-resolution round(H * level)
          by round(W * level).

        Raises:
          UserError: (a ValueError) for a level out of range or an unfit array.
        """
        image = np.asarray(image)
        level = float(self.scale.check(level))
        if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
            raise UserError(f"An image must be uint8 or float in [0, 1], not {image.dtype}.")
        if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
            raise UserError(
                f"An image must be (H, W), (H, W, 1) or (H, W, 3), not of shape {image.shape}."
            )
        if not image.size:
            raise UserError(f"The image of shape {image.shape} has no pixels.")
        unit = 255.0 if image.dtype == np.uint8 else 1.0
        pixels = (image[..., None] if image.ndim == 2 else image).astype(np.float32) * (
            255.0 / unit
        )
        if not np.isfinite(pixels).all() or pixels.min() < 0.0 or pixels.max() > 255.0:
            raise UserError("A float image must lie in [0, 1] everywhere.")
        degraded = self.model.task.network_input(pixels, level)
        restored = self.apply(degraded[None] / 255.0, level=level)[0]
        restored = np.clip(restored, 0.0, 1.0)
        if image.dtype == np.uint8:
            restored = np.round(255.0 * restored)
        restored = restored.astype(image.dtype)
        return restored[..., 0] if image.ndim == 2 else restored
