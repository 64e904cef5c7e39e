"""TFDS builders for photographs; they need no TensorFlow and store ArrayRecord.

Each record is one sub-image, so that a training crop never decodes a whole
photograph. Whole photographs, not sub-images, are held out for validation.
"""

import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from hypernet_jax.data.images import find_images, read_image
from hypernet_jax.errors import UserError

__all__ = ["Div2kHr", "Photographs", "sub_images"]


def _starts(length: int, size: int, stride: int) -> list[int]:
    """Offsets of windows that cover a side; the last one ends at its end."""
    if length <= size:
        return [0]
    count = -(-(length - size) // stride) + 1
    return np.linspace(0, length - size, count).round().astype(int).tolist()


def sub_images(image: np.ndarray, size: int, stride: int) -> Iterator[np.ndarray]:
    """Cuts (H, W, C) into windows of at most size x size, at most `stride` apart."""
    rows = _starts(image.shape[0], size, stride)
    columns = _starts(image.shape[1], size, stride)
    for top, left in itertools.product(rows, columns):
        yield image[top : top + size, left : left + size]


def _encode_png(image: np.ndarray) -> io.BytesIO:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    stream.seek(0)
    return stream


class Photographs(tfds.core.GeneratorBasedBuilder):
    """A folder of photographs, searched recursively.

    Args:
      source: the folder.
      size: side of the stored sub-images in pixels.
      stride: largest distance between neighbouring sub-images.
      minimum: photographs with a side shorter than this are skipped.
      held_out: number of photographs, evenly spread over the sorted names, that
        go to the split "validation".
      skip: called with a sentence for each file that is passed over.
      progress: wraps the iterable of files, e.g. to draw a bar.
      **kwargs: for the TFDS base class; `data_dir` says where to store.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        source: str | Path = "",
        size: int = 256,
        stride: int = 192,
        minimum: int = 64,
        held_out: int = 8,
        skip: Callable[[str], None] = print,
        progress: Callable = iter,
        **kwargs,
    ):
        self._source = Path(source)
        self._size, self._stride, self._minimum = size, stride, minimum
        self._held_out = held_out
        self._skip, self._progress = skip, progress
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Overlapping sub-images of photographs, lossless.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "photograph": tfds.features.Text(),
                }
            ),
        )

    def _split_paths(self) -> dict[str, list[Path]]:
        paths = find_images(self._source)
        count = min(self._held_out, len(paths) - 1)
        held_out = {round((i + 0.5) * len(paths) / count) for i in range(count)} if count else set()
        return {
            "train": [p for i, p in enumerate(paths) if i not in held_out],
            "validation": [p for i, p in enumerate(paths) if i in held_out],
        }

    def _split_generators(self, dl_manager) -> dict:
        del dl_manager
        return {
            split: self._generate_examples(paths)
            for split, paths in self._split_paths().items()
            if paths
        }

    def _generate_examples(self, paths: list[Path]) -> Iterator:
        kept = 0
        for path in self._progress(paths):
            try:
                image = read_image(path, colours=3)
            except UserError as error:
                self._skip(str(error))
                continue
            if min(image.shape[:2]) < self._minimum:
                self._skip(
                    f"The image {path} is {image.shape[1]}x{image.shape[0]} pixels, "
                    f"but both sides must have at least {self._minimum}."
                )
                continue
            kept += 1
            name = path.relative_to(self._source).as_posix()
            for index, part in enumerate(sub_images(image, self._size, self._stride)):
                yield f"{name}#{index:05d}", {"image": _encode_png(part), "photograph": name}
        if not kept:
            raise UserError(
                f"None of the {len(paths)} images chosen from {self._source} can be used; "
                "see the reasons above."
            )


class Div2kHr(Photographs):
    """DIV2K's high-resolution folders as they are downloaded.

    `source` holds DIV2K_train_HR and DIV2K_valid_HR, which become the splits
    "train" and "validation"; `held_out` is not used.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _split_paths(self) -> dict[str, list[Path]]:
        return {
            "train": find_images(self._source / "DIV2K_train_HR"),
            "validation": find_images(self._source / "DIV2K_valid_HR"),
        }
