"""An in-memory cache of decoded images, so that a training run decodes each image once."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from hypernet_jax.data.prepare import damaged_dataset
from hypernet_jax.errors import UserError

__all__ = ["CachedImages"]


class CachedImages:
    """A random-access source of {"image": uint8 (H, W, C)} that caches decoded images.

    Args:
      source: random access to records with an "image"; other entries are dropped.
      name: name of the dataset, for error messages.
      capacity: bytes of images to cache. The first images read are cached, the rest are
        decoded each time; with shuffled reading, which ones are cached makes no difference.

    The arrays are shared between readers, hence read-only. Reading raises `UserError` if the
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
                    "config.data.cache_gib, the size of the image cache, or config.data.crops."
                ) from None
            # The exceptions that readers raise for damaged files are not documented.
            except Exception as error:
                raise damaged_dataset(self._name, error) from None
            image.setflags(write=False)
            with self._lock:
                if index not in self._kept and image.nbytes <= self._room:
                    self._room -= image.nbytes
                    self._kept[index] = image
        return {"image": image}
