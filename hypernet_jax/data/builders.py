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

from hypernet_jax.data.lookalikes import held_out_copies, thumbnail
from hypernet_jax.data.preparation import copy_of_held_out, nothing_to_train_on, without_usable
from hypernet_jax.errors import UserError
from hypernet_jax.images.channels import to_colours
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.reading import read_image

__all__ = [
    "BUILDERS",
    "DIV2K_FOLDERS",
    "Div2kHr",
    "Photographs",
    "held_out_of",
    "read_usable",
    "record_name",
    "records",
    "sub_images",
]

# The folders of DIV2K's high-resolution images, by split.
DIV2K_FOLDERS = {"train": "DIV2K_train_HR", "validation": "DIV2K_valid_HR"}


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


def _reduced(image: np.ndarray, factor: int) -> np.ndarray:
    """A smaller uint8 image, of the means of factor x factor pixels; without incomplete ones."""
    if factor == 1:
        return image
    height, width = (length // factor for length in image.shape[:2])
    whole = image[: height * factor, : width * factor].astype(np.float32)
    cells = whole.reshape((height, factor, width, factor, image.shape[2]))
    return np.round(cells.mean(axis=(1, 3))).astype(np.uint8)


def read_usable(path: Path, minimum: int, *, reduce: int = 1) -> np.ndarray:
    """Reads a photograph, uint8 (H, W, C), and reduces it.

    Raises:
      UserError: if it cannot be read, or a side is then shorter than `minimum` pixels.
    """
    image = _reduced(read_image(path), reduce)
    height, width = image.shape[:2]
    if min(height, width) < minimum:
        raise UserError(
            f"The image {path} is {width}x{height} pixels{', once reduced' * (reduce > 1)}, "
            f"but both sides must have at least {minimum}."
        )
    return image


def record_name(name: str) -> str:
    """A photograph's name in its records: file names may hold bytes that are not UTF-8."""
    return name.encode("utf-8", "replace").decode()


def records(image: np.ndarray, name: str, size: int, stride: int) -> Iterator[tuple[int, dict]]:
    """The records of a photograph, (H, W, C), each with the shortest side of its sub-image."""
    for part in sub_images(to_colours(image, 3), size, stride):
        yield min(part.shape[:2]), {"image": _encode_png(part), "photograph": record_name(name)}


def held_out_of(total: int, count: int) -> set[int]:
    """Indices, evenly spread, of the photographs held out; at least one is left for training."""
    count = min(count, total - 1)
    return {round((i + 0.5) * total / count) for i in range(count)} if count else set()


class Photographs(tfds.core.GeneratorBasedBuilder):
    """A folder of photographs, searched recursively.

    Args:
      source: the folder.
      size: side of the stored sub-images in pixels.
      stride: largest distance between neighbouring sub-images.
      reduce: factor by which the photographs are made smaller first; this averages the noise
        that they have themselves.
      minimum: photographs with a side shorter than this, once reduced, are skipped.
      held_out: number of photographs, evenly spread over the sorted names, that
        go to the split "validation".
      skip: called with a sentence for each file that is passed over.
      progress: wraps the iterable of files, e.g. to draw a bar.
      **kwargs: for the TFDS base class; `data_dir` says where to store.

    Attributes:
      smallest_side: shortest side of all sub-images, once they are prepared.
      photographs: number of photographs that were cut.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(
        self,
        *,
        source: str | Path = "",
        size: int = 256,
        stride: int = 192,
        reduce: int = 1,
        minimum: int = 96,
        held_out: int = 8,
        skip: Callable[[str], None] = print,
        progress: Callable = iter,
        **kwargs,
    ):
        self._source = Path(source)
        self._size, self._stride, self._minimum = size, stride, minimum
        self._reduce, self._held_out = reduce, held_out
        self._skip, self._progress = skip, progress
        self.smallest_side, self.photographs = size, 0
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

    def _usable(self, folder: Path) -> dict[Path, np.ndarray]:
        """Thumbnails of the images below a folder that can be read and are large enough.

        Reports the others.
        They are decoded here and again when they are cut, so that photographs are
        held out from among the usable ones.
        """
        found = find_images(folder)
        usable = {}
        for path in self._progress(found):
            try:
                usable[path] = thumbnail(read_usable(path, self._minimum, reduce=self._reduce))
            except UserError as error:
                self._skip(str(error))
        if not usable:
            raise without_usable(folder, len(found))
        return usable

    def _split_paths(self) -> dict[str, list[Path]]:
        thumbnails = {str(path): each for path, each in self._usable(self._source).items()}
        names = list(thumbnails)
        held_out = {names[index] for index in held_out_of(len(names), self._held_out)}
        copies = held_out_copies(thumbnails, held_out)
        for name, original in copies.items():
            self._skip(copy_of_held_out(name, original))
        train = [Path(name) for name in names if name not in held_out and name not in copies]
        if not train:
            raise nothing_to_train_on(self._source)
        return {"train": train, "validation": [Path(n) for n in names if n in held_out]}

    def _split_generators(self, dl_manager) -> dict:
        del dl_manager
        return {
            split: self._generate_examples(paths)
            for split, paths in self._split_paths().items()
            if paths
        }

    def _generate_examples(self, paths: list[Path]) -> Iterator:
        for number, path in enumerate(self._progress(paths)):
            name = path.relative_to(self._source).as_posix()
            image = read_usable(path, self._minimum, reduce=self._reduce)
            cut = records(image, name, self._size, self._stride)
            for index, (side, record) in enumerate(cut):
                self.smallest_side = min(self.smallest_side, side)
                yield f"{record_name(name)}#{number:06d}#{index:05d}", record
            self.photographs += 1


class Div2kHr(Photographs):
    """DIV2K's high-resolution folders as they are downloaded.

    `source` holds DIV2K_train_HR and DIV2K_valid_HR, which become the splits
    "train" and "validation"; `held_out` is not used.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _split_paths(self) -> dict[str, list[Path]]:
        return {
            split: list(self._usable(self._source / folder))
            for split, folder in DIV2K_FOLDERS.items()
        }


# By layout.
BUILDERS: dict[str, type[Photographs]] = {"folder": Photographs, "div2k": Div2kHr}
