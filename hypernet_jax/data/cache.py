"""Decoded images kept in memory, so that a training run decodes each of them once."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from hypernet_jax.data.prepare import damaged_dataset
from hypernet_jax.errors import UserError

__all__ = ["CachedImages"]


class CachedImages:
    """A random-access source of {"image": uint8 (H, W, C)} that remembers what it has decoded.

    Args:
      source: random access to records with an "image"; other entries are dropped.
      name: of the dataset, for the message where it is damaged.
      capacity: bytes of images to keep. The first ones read stay, the rest are read
        anew each time: in a shuffled pass any choice of what to keep serves as well.

    The arrays are shared between readers, hence read-only. Reading raises `UserError` where the
    dataset is damaged or memory runs out.
    """

    def __init__(self, source, *, capacity: int, name: str | Path):
        self._source = source
        self._name = name
        self._room = capacity
        self._kept: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    @property
    def nbytes(self) -> int:
        """Bytes of the images kept."""
        return sum(image.nbytes for image in self._kept.values())

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self._kept.get(index)
        if image is None:
            try:
                image = self._source[index]["image"]
            except MemoryError:
                raise UserError(
                    "There is not enough memory for another image of the dataset; lower "
                    "config.data.cache_gib, the memory that images are kept in, or "
                    "config.data.crops."
                ) from None
            # What damaged files make the readers raise is not documented.
            except Exception as error:
                raise damaged_dataset(self._name, error) from None
            image.setflags(write=False)
            with self._lock:
                if index not in self._kept and image.nbytes <= self._room:
                    self._room -= image.nbytes
                    self._kept[index] = image
        return {"image": image}
