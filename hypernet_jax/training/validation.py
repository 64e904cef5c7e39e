"""Validation during training: PSNR per level on held-out photographs."""

import jax
import numpy as np

from hypernet_jax.images.channels import to_colours
from hypernet_jax.images.folders import spread
from hypernet_jax.metrics import psnr
from hypernet_jax.model import Model
from hypernet_jax.tasks import get_task

__all__ = ["Validation"]

# PSNR of an exact restoration, as of undegraded images: keeps means finite and valid in JSON.
_HIGHEST_PSNR = 100.0


class Validation:
    """PSNR on fixed centre crops, degraded once, at fixed levels.

    Args:
      model: the model to validate.
      source: records of held-out sub-images.
      config: `config.validation` with `levels`, `images` and `crop_size`.
    """

    def __init__(self, model: Model, source, config):
        # A plain network is also validated at levels other than its own.
        space = get_task(model.task.name).space
        self._levels = [space.parse(level) for level in config.levels]
        crops = []
        # Spread over the split, so that even a few crops show many photographs.
        for index in spread(len(source), config.images):
            image = source[index]["image"]
            size = min(config.crop_size, *image.shape[:2])
            top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
            crops.append(to_colours(image[top : top + size, left : left + size], model.colours))
        smallest = min(min(crop.shape[:2]) for crop in crops)
        self._clean = np.stack([crop[:smallest, :smallest] for crop in crops])
        key = jax.random.key(0)
        self._degraded = [
            np.asarray(model.task.degradation(jax.random.fold_in(key, i), self._clean, level.named))
            for i, level in enumerate(self._levels)
        ]

        def restore(theta, level, degraded):
            images = degraded.astype(np.float32) / 255.0
            return model.apply(model.generate(theta, level), images)

        self._restore = jax.jit(restore)

    def __call__(self, theta) -> dict[str, float]:
        """Returns {"validation/psnr_LEVEL": dB, ..., "validation/psnr": their mean}.

        An exact restoration counts as 100 dB.
        """
        values = {}
        for level, degraded in zip(self._levels, self._degraded, strict=True):
            restored = np.asarray(self._restore(theta, level.array, degraded))
            restored = np.clip(np.round(255.0 * restored), 0, 255)
            figures = [
                min(psnr(r, c), _HIGHEST_PSNR) for r, c in zip(restored, self._clean, strict=True)
            ]
            values[f"validation/psnr_{level}"] = float(np.mean(figures))
        values["validation/psnr"] = float(np.mean(list(values.values())))
        return values
