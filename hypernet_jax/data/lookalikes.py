"""Photographs that look alike: copies, also resized, compressed again, made grey or brighter.

A copy of a held-out photograph among those trained on makes validation look better than it is.
"""

import base64
from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from hypernet_jax.images.channels import to_colours

__all__ = ["as_text", "from_text", "held_out_copies", "thumbnail"]

_SIDE = 16
# Correlation of thumbnails. Among 1,047 photographs that are no copies it was at most 0.91; with
# copies of half the size, in grey, or brightened by 30 % at least 0.97.
_ALIKE = 0.95


def thumbnail(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "side side"]:
    """The luminance of a photograph (H, W, C), reduced to (16, 16)."""
    luma = Image.fromarray(to_colours(image, 1)[..., 0])
    return np.asarray(luma.resize((_SIDE, _SIDE), Image.Resampling.BOX))


def as_text(small: UInt8[np.ndarray, "side side"]) -> str:
    """A thumbnail for JSON."""
    return base64.b64encode(small.tobytes()).decode()


def from_text(text: str) -> UInt8[np.ndarray, "side side"]:
    """The thumbnail of its text; `ValueError` if it is none."""
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape((_SIDE, _SIDE))


def held_out_copies(
    thumbnails: Mapping[str, UInt8[np.ndarray, "side side"]], held_out: set[str]
) -> dict[str, str]:
    """Which photographs look like one that is held out.

    Args:
      thumbnails: of all photographs, by name.
      held_out: names of those that are held out.

    Returns:
      The names of the others that look like one of them, each with its name.
    """
    others = [name for name in thumbnails if name not in held_out]
    if not others or not held_out:
        return {}
    kept = sorted(held_out)
    alike = _patterns(thumbnails, others) @ _patterns(thumbnails, kept).T
    nearest = alike.argmax(axis=1)
    return {
        name: kept[index]
        for name, index, row in zip(others, nearest, alike, strict=True)
        if row[index] > _ALIKE
    }


def _patterns(thumbnails: Mapping[str, np.ndarray], names: list[str]) -> np.ndarray:
    """(N, 256) of mean 0 and norm 1, whose products are correlations; 0 for flat pictures."""
    pixels = np.stack([thumbnails[name] for name in names]).reshape((len(names), -1))
    centred = pixels - pixels.mean(axis=1, keepdims=True, dtype=np.float32)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.maximum(norms, 1.0)
