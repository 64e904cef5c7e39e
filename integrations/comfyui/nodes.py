"""A ComfyUI node that restores an image for a task and level, with an optional mask."""

import functools
from typing import Any, ClassVar

import numpy as np
import torch

from hypernet_jax import Restorer, get_task
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.photographs.level_maps import blend_of_mask, level_map, mask_of_size
from hypernet_jax.weights import shipped_tasks

_restorer = functools.cache(Restorer.from_pretrained)


class HypernetRestore:
    """Restores ComfyUI images, (N, H, W, C) float32 in [0, 1] on any device."""

    CATEGORY = "image/restoration"
    FUNCTION = "restore"
    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("IMAGE", "STRING")
    RETURN_NAMES: ClassVar[tuple[str, ...]] = ("image", "level")
    DESCRIPTION = (
        "Removes noise, JPEG artefacts or blur, or enlarges, at any level. The level is a number, "
        "or parts as in noise=15,jpeg=60; auto estimates it. Black parts of a mask stay unchanged."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802
        """The inputs of the node."""
        return {
            "required": {
                "image": ("IMAGE",),
                "task": (shipped_tasks(),),
                "level": ("STRING", {"default": "auto"}),
                "blend": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05}),
            },
            "optional": {"mask": ("MASK",)},
        }

    def restore(
        self,
        image: torch.Tensor,
        task: str,
        level: str,
        blend: float = 1.0,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, str]:
        """Returns the restored images and their levels, one per line.

        Raises:
          UserError: (a ValueError) for a level out of range, or a mask if the task enlarges.
        """
        restorer, entry = _restorer(task), get_task(task)
        restored, levels = [], []
        masks = None if mask is None else mask.detach().cpu().numpy()
        # For a picture without transparency ComfyUI gives a black mask of 64x64.
        if masks is not None and masks.shape[-2:] == (64, 64) and not masks.any():
            masks = None
        if masks is not None and masks.ndim == 2:
            masks = masks[None]
        for index, one in enumerate(image.detach().cpu().numpy()):
            pixels = np.clip(np.asarray(one[..., :3], np.float32), 0.0, 1.0)
            found, _ = resolve_level(entry, level, pixels, None)
            levels.append(str(found))
            asked: Any = found
            shares: Any = blend
            if masks is not None:
                size = pixels.shape[:2]
                own = np.asarray(masks[index % len(masks)], np.float32)
                there = mask_of_size(own, size, (0, 0), size)
                asked, shares = level_map(found, there), blend_of_mask(there, blend)
            restored.append(restorer.restore(pixels, level=asked, blend=shares))
        made = torch.from_numpy(np.stack(restored)).to(image.device)
        return made, "\n".join(levels)


NODE_CLASS_MAPPINGS = {"HypernetRestore": HypernetRestore}
NODE_DISPLAY_NAME_MAPPINGS = {"HypernetRestore": "Restore (hypernet_jax)"}
