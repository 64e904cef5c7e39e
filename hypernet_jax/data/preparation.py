"""What every way of preparing a dataset shares: its options, its result, its files."""

import dataclasses
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from hypernet_jax.buckets import remove_file
from hypernet_jax.errors import UserError
from hypernet_jax.storage import at_once

__all__ = [
    "ABOUT",
    "INFO",
    "LAYOUTS",
    "PLAN",
    "Preparation",
    "Prepared",
    "already_exists",
    "copy_of_held_out",
    "folders_of_records",
    "is_leftover",
    "nothing_to_train_on",
    "part_of",
    "refuse_foreign",
    "refuse_source",
    "refused",
    "remove_dataset",
    "without_usable",
]

LAYOUTS = ("folder", "div2k")

# What TFDS does not record about a dataset, beside its own files.
ABOUT = "sub_images.json"
# What TFDS records. It is written after all else: a dataset without it is not whole.
INFO = "dataset_info.json"
# What is written first where a pipeline makes the dataset, and what it writes for each shard.
PLAN = "plan.json"
_PART = "part-"


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How photographs become a dataset.

    Attributes:
      layout: "folder" or "div2k".
      size, stride: see `Photographs`.
      reduce: the photographs are made smaller by this factor first.
      minimum: photographs with a shorter side, once reduced, are skipped.
      held_out: photographs kept for validation (layout "folder").
      strict: refuse an unreadable or too small image, or a copy of a held-out one, instead of
        skipping it.
    """

    layout: str = "folder"
    size: int = 256
    stride: int = 192
    reduce: int = 1
    minimum: int = 96
    held_out: int = 8
    strict: bool = False

    def __post_init__(self):
        if self.layout not in LAYOUTS:
            raise UserError(f"Unknown layout {self.layout!r}; choose one of {', '.join(LAYOUTS)}.")
        if self.size < 1:
            raise UserError(f"The size of sub-images is {self.size}; give 1 or more.")
        if not 0 < self.stride <= self.size:
            raise UserError(
                f"The stride {self.stride} must lie between 1 and the size, {self.size}."
            )
        if self.reduce < 1:
            raise UserError(f"The factor of --reduce is {self.reduce}; give 1 or more.")
        if self.held_out < 0:
            raise UserError(
                f"The number of held-out photographs is {self.held_out}; give 0 or more."
            )


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What became of the photographs.

    Attributes:
      sub_images: their number per split.
      photographs: how many were cut.
      skipped: how many were not.
    """

    sub_images: dict[str, int]
    photographs: int
    skipped: int


def refused(sentence: str) -> UserError:
    """The error for an image that would be skipped without `strict`."""
    return UserError(f"{sentence.rstrip('.')}; refused because of --strict.")


def copy_of_held_out(name: Any, original: Any) -> str:
    """The sentence for a photograph that is not trained on because it looks like another."""
    return f"The image {name} looks like {original}, which is held out for validation."


def nothing_to_train_on(folder: Any) -> UserError:
    """The error for a folder whose photographs all look like those that are held out."""
    return UserError(
        f"All photographs in {folder} that are not held out for validation look like those that "
        "are; give more photographs, or pass --held-out 0 to train on all of them."
    )


def without_usable(folder: Any, found: int) -> UserError:
    """The error for a folder in which every image is skipped."""
    return UserError(
        f"None of the {found} images in {folder} can be used; "
        "see the reasons above and choose others."
    )


def already_exists(place: Any) -> UserError:
    """The error for an output that is not replaced unasked."""
    return UserError(f"{place} already exists; choose another folder or pass --overwrite.")


def folders_of_records(photographs: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """The folder of each record, as {"names", "of_record"}, of photographs and their records."""
    counted = [(str(PurePosixPath(name).parent), count) for name, count in photographs]
    names = sorted({folder for folder, _ in counted})
    number = {folder: index for index, folder in enumerate(names)}
    of_record = [number[folder] for folder, count in counted for _ in range(count)]
    return {"names": names, "of_record": of_record}


def part_of(split: str, index: int) -> str:
    """The name of the file about a shard of a split."""
    return f"{_PART}{split}-{index:05d}.json"


def is_leftover(name: str) -> bool:
    """Whether a file of an output is one that a killed process was writing."""
    return name.startswith(".") and (name.endswith(".partial") or name.startswith(".trial-"))


def refuse_foreign(place: Any, names: Iterable[str]) -> None:
    """Raises `UserError` if one of the names in a folder is no part of a dataset of ours."""
    ours = {ABOUT, INFO, PLAN, "features.json"}
    for name in names:
        if name in ours or ".array_record-" in name or is_leftover(name):
            continue
        if name.startswith(_PART) and name.endswith(".json"):
            continue
        raise UserError(
            f"{place} holds {name}, which is not part of a dataset, and is not replaced; "
            "choose another folder."
        )


def refuse_source(source: Any, output: Any) -> None:
    """Raises `UserError` if the output is the folder of the photographs, or holds it."""
    if f"{source}/".startswith(f"{output}/"):
        raise UserError(
            f"The output {output} holds the photographs in {source}; choose another output."
        )


def remove_dataset(place: Any, names: list[str]) -> None:
    """Removes the files of a dataset, first what makes it whole."""
    remove_file(place / INFO)
    at_once(lambda name: remove_file(place / name), names)
