"""A ComfyUI node that restores an image for a task and level, with an optional mask."""

import functools
from typing import Any, ClassVar

import numpy as np
import torch

from hypernet_jax import Restorer, UserError
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.photographs.level_maps import (
    blend_of_mask,
    check_proportions,
    level_map,
    mask_of_size,
)
from hypernet_jax.tasks import DEFAULT_TASK
from hypernet_jax.weights import shipped_tasks

_restorer = functools.cache(Restorer.from_pretrained)


class HypernetRestore:
    """Restores ComfyUI images, (N, H, W, C) floats in [0, 1] on any device."""

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
                "task": (shipped_tasks(), {"default": DEFAULT_TASK}),
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
        """Returns the restored images, float32 (N, H, W, C), and their levels, one per line.

        Args:
          image: (N, H, W, C) in [0, 1], 16-bit floats included, C = 1, 3 or 4, of which the fourth
            is left out; without images the result has none either.
          task: name of a task with shipped weights.
          level: in native units; parts may be "auto".
          blend: the weight of the restored image, 0 to 1.
          mask: (H, W) or (N, H, W) in [0, 1], of any size with the image's proportions: the share
            of the level. Fewer masks than images are repeated.

        Raises:
          UserError: (a ValueError) for images of other axes, a level out of range, a mask of other
            axes or proportions, or a mask if the task enlarges.
        """
        if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
            raise UserError(f"Images must be of shape (N, H, W, 3), not {tuple(image.shape)}.")
        if not len(image):
            return image[..., :3].detach().float(), ""
        restorer = _restorer(task)
        restored, levels = [], []
        masks = None if mask is None else _masks(mask, tuple(image.shape[1:3]))
        # NumPy has no bfloat16.
        for index, one in enumerate(image.detach().float().cpu().numpy()):
            pixels = np.clip(np.asarray(one[..., :3], np.float32), 0.0, 1.0)
            found, _ = resolve_level(restorer.model.task, level, pixels, None)
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


def _masks(mask: torch.Tensor, size: tuple[int, int]) -> np.ndarray | None:
    """The masks, float32 (N, H, W); None where ComfyUI means that there is none.

    Args:
      mask: the input of the node.
      size: (H, W) of the images.

    Raises:
      UserError: for other axes or proportions.
    """
    masks = mask.detach().float().cpu().numpy()
    if masks.ndim not in (2, 3) or not masks.size:
        raise UserError(
            f"A mask must be of shape (H, W) or (N, H, W), not {masks.shape}; convert an image "
            "to a mask first."
        )
    height, width = masks.shape[-2:]
    # For a picture without transparency ComfyUI gives a black mask of 64x64.
    if (height, width) == (64, 64) != size and not masks.any():
        return None
    check_proportions(masks, size)
    return masks.reshape((-1, height, width))


NODE_CLASS_MAPPINGS = {"HypernetRestore": HypernetRestore}
NODE_DISPLAY_NAME_MAPPINGS = {"HypernetRestore": "Restore (hypernet_jax)"}
