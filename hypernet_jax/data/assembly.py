"""Making a dataset on Apache Beam: its shards are cut by a pipeline and then put together.

Held-out photographs leave the shards when all usable ones are known; TFDS's description is last.
Every step can be done again after a kill: a file is whole or absent, and what was moved is known
by the number of records that are left.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import tensorflow_datasets as tfds

from hypernet_jax import beam
from hypernet_jax.buckets import remove_file
from hypernet_jax.data.builders import held_out_of, record_name
from hypernet_jax.data.lookalikes import held_out_copies
from hypernet_jax.data.preparation import (
    ABOUT,
    INFO,
    PLAN,
    Preparation,
    Prepared,
    already_exists,
    copy_of_held_out,
    folders_of_records,
    is_leftover,
    nothing_to_train_on,
    part_of,
    refuse_foreign,
    refuse_source,
    refused,
    remove_dataset,
    without_usable,
)
from hypernet_jax.data.shards import (
    CutShard,
    Part,
    Plan,
    builder_of,
    make_plan,
    read_records,
    shard_name,
    write_records,
)
from hypernet_jax.errors import UserError
from hypernet_jax.files import temporary_folder
from hypernet_jax.storage import at_once, ensure_place, names_in, write_whole

__all__ = ["prepare_on_beam"]

# For each shard of each split.
Parts = dict[str, list[Part]]


def prepare_on_beam(
    source: Any,
    place: Any,
    preparation: Preparation,
    *,
    beam_options: str,
    overwrite: bool,
    report: Callable[[str], None],
) -> Prepared:
    """Writes the shards that are missing in the output, and makes a dataset of them.

    Args:
      source, place: as `storage_path` returns them, and the same for every worker.
      preparation: how the photographs are cut.
      beam_options: of the pipeline, as on a command line.
      overwrite: replace a dataset, or an unfinished one of other photographs or options.
      report: called with a sentence for each image that is skipped.
    """
    beam.check_options(beam_options)
    refuse_source(source, place)
    if isinstance(place, Path) and place.exists() and not place.is_dir():
        refuse_foreign(place, [place.name])
    names = names_in(place)
    refuse_foreign(place, names)
    begun = PLAN in names and INFO not in names
    if names and not begun and not overwrite:
        raise already_exists(place)
    plan = make_plan(source, preparation)
    old = Plan.read(place) if begun else None
    if old is not None and old.fingerprint == plan.fingerprint:
        plan = old
    elif old is not None and not overwrite:
        raise UserError(
            f"{place} holds an unfinished dataset of other photographs or options; finish it "
            "with those, choose another folder, or pass --overwrite to start afresh."
        )
    else:
        ensure_place(place)
        remove_dataset(place, names)
        names = []
        write_whole(place / PLAN, plan.to_json())
    done = set(names)
    missing = [item for item in plan.items() if part_of(*item) not in done]
    if missing:
        beam.run(CutShard(str(source), str(place), preparation), missing, options=beam_options)
    parts = _read_parts(place, plan)
    if preparation.layout == "folder":
        parts = _without_copies(parts, preparation, source)
    for sentence in _refusals_of(parts):
        if preparation.strict:
            raise refused(sentence)
        report(f"Skipped: {sentence}")
    return _assemble(place, plan, parts, preparation, source)


def _read_parts(place: Any, plan: Plan) -> Parts:
    """Reads what every shard holds."""
    parts = at_once(lambda item: Part.read(place / part_of(*item)), plan.items())
    found = dict(zip(plan.items(), parts, strict=True))
    return {
        split: [found[split, index] for index in range(len(shards))]
        for split, shards in plan.shards.items()
    }


def _refusals_of(parts: Parts) -> list[str]:
    """The sentences for all images that were skipped, in the order of their names."""
    named = [one for of_split in parts.values() for part in of_split for one in part.refusals]
    return [sentence for _, sentence in sorted(named, key=lambda one: PurePosixPath(one[0]))]


def _held_out(parts: Parts, preparation: Preparation) -> set[str]:
    """The names of the photographs that are held out."""
    usable = sorted(PurePosixPath(name) for part in parts["train"] for name in part.thumbnails)
    return {str(usable[index]) for index in held_out_of(len(usable), preparation.held_out)}


def _without_copies(parts: Parts, preparation: Preparation, source: Any) -> Parts:
    """With refusals of what looks like a held-out photograph; its records are left out later."""
    train = parts["train"]
    thumbnails = {name: each for part in train for name, each in part.thumbnails.items()}
    copies = held_out_copies(thumbnails, _held_out(parts, preparation))

    def without(part: Part) -> Part:
        own = [(name, copies[name]) for name in part.thumbnails if name in copies]
        refusals = [
            (name, copy_of_held_out(source / name, source / original)) for name, original in own
        ]
        return dataclasses.replace(part, refusals=[*part.refusals, *refusals])

    return {**parts, "train": [without(part) for part in train]}


def _assemble(
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
        parts = _hold_out(place, parts, preparation, source)
    _describe(place, parts, preparation)
    leftovers = [name for name in names_in(place) if is_leftover(name)]
    parts_of_work = [part_of(*item) for item in plan.items()]
    at_once(lambda name: remove_file(place / name), [*leftovers, *parts_of_work, PLAN])
    counts = {split: sum(_lengths(of_split)) for split, of_split in parts.items()}
    cut = sum(len(part.photographs) for of_split in parts.values() for part in of_split)
    return Prepared(counts, cut, len(_refusals_of(parts)))


def _lengths(parts: list[Part]) -> list[int]:
    return [sum(count for _, count, *_ in part.photographs) for part in parts]


def _hold_out(place: Any, parts: Parts, preparation: Preparation, source: Any) -> Parts:
    """Moves the records of some photographs of "train" to "validation", which is written first.

    Those of copies of these are left out.
    """
    train = parts["train"]
    held_out = _held_out(parts, preparation)
    if not held_out:
        return parts
    copies = {name for part in train for name, _ in part.refusals if name in part.thumbnails}
    leaving = held_out | copies
    if all(name in leaving for part in train for name in part.thumbnails):
        raise nothing_to_train_on(source)
    target = place / shard_name(preparation.layout, "validation", 0, 1)
    affected = [
        index
        for index, part in enumerate(train)
        if any(name in leaving for name, *_ in part.photographs)
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
    validation: list[tuple[str, int, int, int]] = []
    for index in affected:
        part = train[index]
        serialised = read_records(paths[index])
        if len(serialised) == sum(_lengths([part])):
            kept = [own for name, own in _by_photograph(part, serialised) if name not in leaving]
            write_records(paths[index], [one for own in kept for one in own])
        validation += [one for one in part.photographs if one[0] in held_out]
        left[index] = dataclasses.replace(
            part, photographs=[one for one in part.photographs if one[0] not in leaving]
        )
    return {"train": left, "validation": [Part(validation, {}, [])]}


def _by_photograph(part: Part, serialised: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """The records of each photograph of a shard."""
    first = 0
    for name, count, *_ in part.photographs:
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
                num_bytes=sum(size for part in of_split for _, _, size, _ in part.photographs),
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
            "smallest_side": min(
                side for each in parts.values() for part in each for *_, side in part.photographs
            ),
            "folders": folders_of_records(
                (record_name(name), count)
                for part in parts["train"]
                for name, count, *_ in part.photographs
            ),
        }
        (folder / ABOUT).write_text(json.dumps(about))
        written = [path for path in folder.iterdir() if path.is_file()]
        for path in sorted(written, key=lambda path: path.name == INFO):
            write_whole(place / path.name, path.read_bytes(), overwrite=True)
