"""Making a dataset of shards: held-out photographs leave them, and TFDS's description comes last.

Every step can be done again after a kill: a file is whole or absent, and what was moved is known
by the number of records that are left.
"""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import tensorflow_datasets as tfds

from hypernet_jax.buckets import remove_file
from hypernet_jax.data.builders import held_out_of, record_name
from hypernet_jax.data.preparation import (
    ABOUT,
    INFO,
    PLAN,
    Preparation,
    Prepared,
    folders_of_records,
    part_of,
    without_usable,
)
from hypernet_jax.data.shards import (
    Part,
    Plan,
    builder_of,
    read_records,
    shard_name,
    write_records,
)
from hypernet_jax.files import temporary_folder
from hypernet_jax.storage import at_once, names_in, write_whole

__all__ = ["assemble", "read_parts", "refusals_of"]

# For each shard of each split.
Parts = dict[str, list[Part]]


def read_parts(place: Any, plan: Plan) -> Parts:
    """Reads what every shard holds."""
    parts = at_once(lambda item: Part.read(place / part_of(*item)), plan.items())
    found = dict(zip(plan.items(), parts, strict=True))
    return {
        split: [found[split, index] for index in range(len(shards))]
        for split, shards in plan.shards.items()
    }


def refusals_of(parts: Parts) -> list[str]:
    """The sentences for all images that were skipped, in the order of their names."""
    named = [one for of_split in parts.values() for part in of_split for one in part.refusals]
    return [sentence for _, sentence in sorted(named, key=lambda one: PurePosixPath(one[0]))]


def assemble(
    place: Any, plan: Plan, parts: Parts, preparation: Preparation, source: Any
) -> Prepared:
    """Makes the shards of a folder, of this machine or a store, a dataset.

    Args:
      place: the folder, which holds all shards.
      plan, parts: what was to be done, and what was.
      preparation: the options.
      source: where the photographs are from, for messages.

    Raises:
      UserError: if no photograph of a split can be used, or the store does not answer.
    """
    for split, of_split in parts.items():
        if not any(part.photographs for part in of_split):
            raise without_usable(source, sum(map(len, plan.shards[split])))
    if preparation.layout == "folder":
        parts = _hold_out(place, parts, preparation)
    _describe(place, parts, preparation)
    at_once(lambda item: remove_file(place / part_of(*item)), plan.items())
    remove_file(place / PLAN)
    counts = {split: sum(_lengths(of_split)) for split, of_split in parts.items()}
    cut = sum(len(part.photographs) for of_split in parts.values() for part in of_split)
    return Prepared(counts, cut, len(refusals_of(parts)))


def _lengths(parts: list[Part]) -> list[int]:
    return [sum(count for _, count, _ in part.photographs) for part in parts]


def _hold_out(place: Any, parts: Parts, preparation: Preparation) -> Parts:
    """Moves the records of some photographs of "train" to "validation", which is written first."""
    train = parts["train"]
    usable = sorted(PurePosixPath(name) for part in train for name, _, _ in part.photographs)
    chosen = held_out_of(len(usable), preparation.held_out)
    held_out = {str(usable[index]) for index in chosen}
    if not held_out:
        return parts
    target = place / shard_name(preparation.layout, "validation", 0, 1)
    affected = [
        index
        for index, part in enumerate(train)
        if any(name in held_out for name, _, _ in part.photographs)
    ]
    paths = {
        index: place / shard_name(preparation.layout, "train", index, len(train))
        for index in affected
    }
    if target.name not in names_in(place):
        moved: dict[str, list[bytes]] = {}
        for index in affected:
            moved |= {
                name: own
                for name, own in _by_photograph(train[index], read_records(paths[index]))
                if name in held_out
            }
        write_records(target, [one for name in sorted(moved) for one in moved[name]])
    left = list(train)
    validation: list[tuple[str, int, int]] = []
    for index in affected:
        part = train[index]
        serialised = read_records(paths[index])
        if len(serialised) == sum(_lengths([part])):
            kept = [own for name, own in _by_photograph(part, serialised) if name not in held_out]
            write_records(paths[index], [one for own in kept for one in own])
        validation += [one for one in part.photographs if one[0] in held_out]
        left[index] = Part(
            [one for one in part.photographs if one[0] not in held_out],
            part.refusals,
            part.smallest_side,
        )
    return {"train": left, "validation": [Part(validation, [], preparation.size)]}


def _by_photograph(part: Part, serialised: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """The records of each photograph of a shard."""
    first = 0
    for name, count, _ in part.photographs:
        yield name, serialised[first : first + count]
        first += count


def _describe(place: Any, parts: Parts, preparation: Preparation) -> None:
    """Writes what makes a folder of shards a dataset, TFDS's description last."""
    with temporary_folder() as folder:
        builder = builder_of(preparation.layout, folder)
        splits = [
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=_lengths(of_split),
                num_bytes=sum(size for part in of_split for _, _, size in part.photographs),
                filename_template=tfds.core.ShardedFileTemplate(
                    data_dir=folder,
                    dataset_name=builder.name,
                    split=split,
                    filetype_suffix="array_record",
                ),
            )
            for split, of_split in parts.items()
        ]
        builder.info.set_splits(tfds.core.splits.SplitDict(splits))
        builder.info.write_to_directory(folder)
        about = {
            "smallest_side": min(part.smallest_side for each in parts.values() for part in each),
            "folders": folders_of_records(
                (record_name(name), count)
                for part in parts["train"]
                for name, count, _ in part.photographs
            ),
        }
        (folder / ABOUT).write_text(json.dumps(about))
        written = [path for path in folder.iterdir() if path.is_file()]
        for path in sorted(written, key=lambda path: path.name == INFO):
            write_whole(place / path.name, path.read_bytes(), overwrite=True)
