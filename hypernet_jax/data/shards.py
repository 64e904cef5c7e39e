"""Cutting photographs into the shards of a dataset, each on its own, in any order, on any machine.

A plan, the first file of the output, says which photographs are in which shard. Each shard is
one file of records, and one about them, its part, which is written last: a shard with a part is
done. A shard is the same whenever it is written, so writing it twice does no harm.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from hypernet_jax.data.builders import (
    BUILDERS,
    DIV2K_FOLDERS,
    Photographs,
    read_usable,
    records,
)
from hypernet_jax.data.lookalikes import as_text, from_text, thumbnail
from hypernet_jax.data.preparation import PLAN, Preparation, part_of, refused
from hypernet_jax.errors import UserError
from hypernet_jax.files import temporary_folder
from hypernet_jax.images.folders import images_below
from hypernet_jax.storage import local_copy, storage_path, write_whole

__all__ = [
    "CutShard",
    "Part",
    "Plan",
    "builder_of",
    "make_plan",
    "read_records",
    "shard_name",
    "write_records",
]

# Of the photographs of one shard. A worker holds a shard in memory to send it; losslessly cut
# photographs take several times the room of their files.
_MOST = 128
_MOST_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which photographs go to which shard.

    Attributes:
      fingerprint: of the photographs' names and sizes, and of the options.
      shards: names of photographs, below the source, for each shard of each split.
    """

    fingerprint: str
    shards: dict[str, list[list[str]]]

    def to_json(self) -> bytes:
        """The content of its file."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def read(cls, place: Any) -> "Plan":
        """Reads the plan in a folder of this machine or of a store."""
        with local_copy(place / PLAN) as path:
            try:
                return cls(**json.loads(path.read_bytes()))
            except (ValueError, TypeError):
                raise UserError(
                    f"{place / PLAN} is damaged; remove it, and pass --overwrite to start afresh."
                ) from None

    def items(self) -> list[tuple[str, int]]:
        """Split and index of every shard."""
        return [(split, i) for split, shards in self.shards.items() for i in range(len(shards))]


@dataclasses.dataclass(frozen=True)
class Part:
    """What a shard holds.

    Attributes:
      photographs: name, number of records, their bytes and the shortest side of a sub-image, in
        pixels, of each, in the order of the records.
      thumbnails: of each, by name.
      refusals: name and sentence of each photograph that is skipped.
    """

    photographs: list[tuple[str, int, int, int]]
    thumbnails: dict[str, np.ndarray]
    refusals: list[tuple[str, str]]

    def to_json(self) -> bytes:
        """The content of its file."""
        texts = {name: as_text(each) for name, each in self.thumbnails.items()}
        return json.dumps(vars(self) | {"thumbnails": texts}).encode()

    @classmethod
    def read(cls, path: Any) -> "Part":
        """Reads a file of this machine or of a store."""
        with local_copy(path) as copy:
            try:
                content = json.loads(copy.read_bytes())
                return cls(
                    [
                        (name, count, size, side)
                        for name, count, size, side in content["photographs"]
                    ],
                    {name: from_text(text) for name, text in content["thumbnails"].items()},
                    [(name, sentence) for name, sentence in content["refusals"]],
                )
            except (ValueError, TypeError, KeyError, AttributeError):
                raise UserError(
                    f"{path} is damaged; remove it, and give the same command again."
                ) from None


def make_plan(source: Any, preparation: Preparation) -> Plan:
    """Finds the photographs below a `storage_path`; assigns them to shards in a mixed order.

    Raises:
      UserError: if there are none, or the store does not answer.
    """
    if preparation.layout == "folder":
        found = {"train": images_below(source)}
    else:
        found = {
            split: {
                f"{folder}/{name}": size for name, size in images_below(source / folder).items()
            }
            for split, folder in DIV2K_FOLDERS.items()
        }
    options = dataclasses.asdict(dataclasses.replace(preparation, strict=False))
    about = json.dumps([found, options], sort_keys=True).encode()
    return Plan(
        hashlib.sha256(about).hexdigest(),
        {split: _shards(sizes) for split, sizes in found.items()},
    )


def _shards(sizes: Mapping[str, int]) -> list[list[str]]:
    mixed = sorted(sizes, key=lambda name: hashlib.sha256(json.dumps(name).encode()).digest())
    shards: list[list[str]] = []
    room = 0
    for name in mixed:
        if not shards or len(shards[-1]) == _MOST or sizes[name] > room:
            shards.append([])
            room = _MOST_BYTES
        shards[-1].append(name)
        room -= sizes[name]
    return shards


def builder_of(layout: str, data_dir: Path) -> Photographs:
    """The TFDS builder whose name, records and description a dataset has."""
    return BUILDERS[layout](data_dir=data_dir)


def shard_name(layout: str, split: str, index: int, count: int) -> str:
    """The name that TFDS gives the file of a shard."""
    template = tfds.core.ShardedFileTemplate(
        data_dir="",
        dataset_name=BUILDERS[layout].name,
        split=split,
        filetype_suffix="array_record",
    )
    return template.sharded_filepath(shard_index=index, num_shards=count).name


def write_records(path: Any, serialised: Iterable[bytes]) -> None:
    """Writes an ArrayRecord file, whole or not at all, to this machine or a store."""
    with temporary_folder() as folder:
        local = folder / "records"
        writer = array_record_module.ArrayRecordWriter(str(local), "group_size:1")
        for record in serialised:
            writer.write(record)
        writer.close()
        write_whole(path, local.read_bytes(), overwrite=True)


def read_records(path: Any) -> list[bytes]:
    """All records of an ArrayRecord file of this machine or a store."""
    with local_copy(path) as local:
        reader = array_record_module.ArrayRecordReader(str(local))
        try:
            return reader.read_all() if reader.num_records() else []
        finally:
            reader.close()


class CutShard:
    """The `beam.Work` that writes a shard and its part.

    Args:
      source: folder or address of the photographs, as every worker sees it.
      output: folder or address of the dataset, with its plan.
      preparation: how the photographs are cut.
    """

    def __init__(self, source: str, output: str, preparation: Preparation):
        self._source, self._output, self._preparation = source, output, preparation

    def setup(self) -> None:
        """Reads the plan."""
        self._plan = Plan.read(storage_path(self._output))
        with temporary_folder() as folder:
            self._features = builder_of(self._preparation.layout, folder).info.features

    def __call__(self, item: tuple[str, int]) -> None:
        """Writes the shard of a split and an index, then its part.

        Raises:
          UserError: if a photograph cannot be fetched or the shard not be written; with `strict`
            also for an image that cannot be used.
        """
        split, index = item
        shards = self._plan.shards[split]
        place = storage_path(self._output)
        part = Part([], {}, [])
        serialised: list[bytes] = []
        for name in shards[index]:
            cut, part = self._with_photograph(name, part)
            serialised += cut
        name = shard_name(self._preparation.layout, split, index, len(shards))
        write_records(place / name, serialised)
        write_whole(place / part_of(split, index), part.to_json(), overwrite=True)

    def _with_photograph(self, name: str, part: Part) -> tuple[list[bytes], Part]:
        """The records of a photograph, and the part with it or its refusal."""
        options, photograph = self._preparation, storage_path(self._source) / name
        # What cannot be fetched is no refusal: the next attempt may find it.
        with local_copy(photograph) as path:
            try:
                image = read_usable(path, options.minimum, reduce=options.reduce)
            except UserError as error:
                sentence = str(error).replace(str(path), str(photograph))
                if options.strict:
                    raise refused(sentence) from None
                return [], dataclasses.replace(part, refusals=[*part.refusals, (name, sentence)])
        cut = list(records(image, name, options.size, options.stride))
        serialised = [self._features.serialize_example(record) for _, record in cut]
        return serialised, Part(
            [
                *part.photographs,
                (name, len(cut), sum(map(len, serialised)), min(side for side, _ in cut)),
            ],
            {**part.thumbnails, name: thumbnail(image)},
            part.refusals,
        )
