"""Preparing a dataset: photographs -> a folder of ArrayRecord files."""

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypernet_jax.buckets import patiently, send_file
from hypernet_jax.data.preparation import (
    ABOUT,
    INFO,
    PLAN,
    Preparation,
    Prepared,
    already_exists,
    folders_of_records,
    refuse_foreign,
    refuse_source,
    refused,
    remove_dataset,
)
from hypernet_jax.errors import UserError
from hypernet_jax.files import is_address, local_path, temporary_folder
from hypernet_jax.storage import ensure_place, names_in, resolved_path, storage_path

__all__ = [
    "PACKAGED_PHOTOGRAPHS",
    "check_crop_size",
    "damaged_dataset",
    "default_dataset",
    "fingerprint",
    "folders_of",
    "has_split",
    "local_dataset",
    "open_split",
    "prepare_dataset",
]

# Real photographs that scikit-image carries in its wheel. By the builder's rule
# coffee.png and motorcycle_left.png are held out for validation.
PACKAGED_PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)


def prepare_dataset(
    source: str | Path,
    output: str | Path,
    *,
    layout: str = "folder",
    size: int = 256,
    stride: int | None = None,
    reduce: int = 1,
    minimum: int = 96,
    held_out: int = 8,
    strict: bool = False,
    overwrite: bool = False,
    beam_options: str | None = None,
    report: Callable[[str], None] = print,
    progress: bool = True,
) -> Prepared:
    """Cuts photographs into sub-images and stores them as a TFDS dataset.

    Args:
      source: a folder of photographs, or the folder that holds DIV2K's two HR folders; an address
        needs Apache Beam.
      output: the folder to make, or an address. It is a dataset only when it is complete.
      layout: "folder" or "div2k".
      size, stride, reduce: see `Photographs`; without a stride it is three quarters of the size.
      minimum: photographs with a shorter side, once reduced, are skipped.
      held_out: photographs kept for validation (layout "folder").
      strict: refuse an unreadable or too small image, or a copy of a held-out one, instead of
        skipping it.
      overwrite: replace an existing `output`.
      beam_options: of the Apache Beam pipeline that cuts the photographs, and resumes where an
        earlier one stopped; as on a command line. None: no pipeline, unless `source` is an address.
      report: called with a sentence for each image that is skipped.
      progress: draw a progress bar; pipelines draw none.

    Raises:
      UserError: for options that do not fit, an output that exists, or photographs that cannot be
        read.
    """
    stride = max(1, size * 3 // 4) if stride is None else stride
    preparation = Preparation(layout, size, stride, reduce, minimum, held_out, strict)
    place = resolved_path(output)
    if beam_options is not None or is_address(source):
        # TFDS takes seconds to import.
        from hypernet_jax.data.assembly import prepare_on_beam

        return prepare_on_beam(
            resolved_path(source),
            place,
            preparation,
            beam_options=beam_options or "",
            overwrite=overwrite,
            report=report,
        )

    def prepare_here(output: Path, *, overwrite: bool) -> Prepared:
        return _prepare_here(
            local_path(source).resolve(),
            output,
            preparation,
            overwrite=overwrite,
            report=report,
            progress=progress,
        )

    if isinstance(place, Path):
        return prepare_here(place, overwrite=overwrite)
    _check_place(place, overwrite=overwrite)
    with temporary_folder() as folder:
        prepared = prepare_here(folder / "dataset", overwrite=False)
        _send_dataset(folder / "dataset", place)
    return prepared


def _prepare_here(
    source: Path,
    output: Path,
    preparation: Preparation,
    *,
    overwrite: bool,
    report: Callable[[str], None],
    progress: bool,
) -> Prepared:
    """Makes the dataset beside its place and moves it there."""
    # TFDS takes seconds to import and is needed by nobody who only restores.
    import tensorflow_datasets as tfds
    import tqdm

    from hypernet_jax.data.builders import BUILDERS

    _check_output(source, output, overwrite=overwrite)
    skipped = 0

    def skip(sentence: str) -> None:
        nonlocal skipped
        if preparation.strict:
            raise refused(sentence)
        skipped += 1
        report(f"Skipped: {sentence}")

    def bar(paths):
        return tqdm.tqdm(
            paths, desc="photographs", unit="photo", disable=None if progress else True
        )

    tfds.disable_progress_bar()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {output} cannot be made ({error.strerror}).") from None
    with temporary_folder(output.parent, prefix=f".{output.name}.") as working:
        builder = BUILDERS[preparation.layout](
            source=source,
            size=preparation.size,
            stride=preparation.stride,
            reduce=preparation.reduce,
            minimum=preparation.minimum,
            held_out=preparation.held_out,
            skip=skip,
            progress=bar,
            data_dir=working / "tfds",
        )
        try:
            # TFDS prints where it works, a folder that will be gone; our bar goes to stderr.
            with contextlib.redirect_stdout(io.StringIO()):
                builder.download_and_prepare()
            counts = {name: split.num_examples for name, split in builder.info.splits.items()}
            about = {"smallest_side": builder.smallest_side, "folders": _folders(builder)}
            (Path(builder.data_path) / ABOUT).write_text(json.dumps(about))
            # It may have taken hours.
            _check_output(source, output, overwrite=overwrite)
            replaced = working / "replaced" if overwrite else None
            _move_dataset(Path(builder.data_path), output, replaced)
        except OSError as error:
            raise UserError(f"The dataset {output} could not be written ({error}).") from None
    return Prepared(counts, builder.photographs, skipped)


def _move_dataset(dataset: Path, output: Path, replaced: Path | None) -> None:
    """Moves a dataset to its place, and an earlier one there to `replaced`, if that is given.

    Raises:
      UserError: if there is one, and `replaced` is None.
    """
    if replaced is None:
        try:
            os.replace(dataset, output)
        except OSError:
            if output.exists():
                raise already_exists(output) from None
            raise
        return
    try:
        if output.exists():
            os.replace(output, replaced)
        os.replace(dataset, output)
    except BaseException:
        # What stood there goes back before the working folder goes.
        if replaced.exists() and not output.exists():
            os.replace(replaced, output)
        raise


def _check_output(source: Path, output: Path, *, overwrite: bool) -> None:
    """Makes sure that nothing but an earlier dataset of ours can be replaced."""
    refuse_source(source, output)
    if not output.exists():
        return
    if not overwrite:
        raise already_exists(output)
    refuse_foreign(
        output, [path.name for path in (output.iterdir() if output.is_dir() else [output])]
    )


def _check_place(place: Any, *, overwrite: bool) -> None:
    """As `_check_output`, for a folder of a store; tries, too, whether it can be written."""
    names = names_in(place)
    # Without either it is what was left of an attempt.
    if (INFO in names or PLAN in names) and not overwrite:
        raise already_exists(place)
    refuse_foreign(place, names)
    ensure_place(place)


def _send_dataset(dataset: Path, place: Any) -> None:
    """Writes a dataset into a folder of a store: what makes it whole goes first and comes last."""
    remove_dataset(place, names_in(place))
    for path in sorted(dataset.iterdir(), key=lambda path: path.name == INFO):
        send_file(place / path.name, path.read_bytes())


def check_crop_size(dataset: str | Path, crop_size: int) -> None:
    """Raises `UserError` where some sub-image of a dataset is smaller than a training crop."""
    try:
        smallest = json.loads((Path(dataset) / ABOUT).read_text())["smallest_side"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # prepared by other means: the pipeline will tell
    if smallest < crop_size:
        raise UserError(
            f"The smallest sub-image of the dataset {dataset} has {smallest} pixels per side, but "
            f"config.data.crop_size is {crop_size}; lower that, or prepare the dataset again "
            f"with --minimum {crop_size} and a --size no smaller."
        )


def _folders(builder) -> dict[str, Any]:
    """The folders of the records of the split "train"."""
    import tensorflow_datasets as tfds

    names = builder.as_data_source(split="train", decoders={"image": tfds.decode.SkipDecoding()})
    return folders_of_records((_text(record["photograph"]), 1) for record in names)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def folders_of(dataset: str | Path) -> list[str]:
    """The folder, below the one that was prepared, that each record of the split "train" is from.

    Raises:
      UserError: if the dataset does not say.
    """
    try:
        folders = json.loads((Path(dataset) / ABOUT).read_text())["folders"]
        return [folders["names"][index] for index in folders["of_record"]]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise UserError(
            f"The dataset {dataset} does not say which folders its photographs are from; prepare "
            "it again, or set config.data.largest_share=1."
        ) from None


def has_split(dataset: str | Path, split: str) -> bool:
    """Whether a prepared dataset has a split of that name."""
    return any(Path(dataset).glob(f"*-{split}.array_record-*"))


def open_split(dataset: str | Path, split: str):
    """A random-access source of {"image": uint8 (H, W, 3), ...} records."""
    import tensorflow_datasets as tfds

    if not local_path(dataset).is_dir():
        raise UserError(
            f"There is no dataset {dataset}; give config.data.dataset the folder or address that "
            "`hypernet-jax prepare` wrote."
        )
    if not (Path(dataset) / "dataset_info.json").exists():
        raise UserError(
            f"The folder {dataset} is not a prepared dataset; make one from photographs with "
            f"`hypernet-jax prepare {dataset} -o DATASET` and give that."
        )
    logging.getLogger("absl").addFilter(_is_no_advice)
    # What damaged files make TFDS and its readers raise is not documented.
    try:
        builder = tfds.builder_from_directory(str(dataset))
        splits = {name: info.filepaths for name, info in builder.info.splits.items()}
    except Exception as error:
        raise damaged_dataset(dataset, error) from None
    if split not in splits:
        raise UserError(f"The dataset {dataset} has no split {split!r}; prepare it again.")
    missing = [Path(path) for path in splits[split] if not Path(path).exists()]
    if missing:
        raise UserError(f"The dataset {dataset} lacks {missing[0].name}; copy or prepare it again.")
    try:
        return builder.as_data_source(split=split)
    except Exception as error:
        raise damaged_dataset(dataset, error) from None


def _is_no_advice(record: logging.LogRecord) -> bool:
    """False for TFDS's advice to install OpenCV, which decodes PNG files no better than Pillow."""
    return "OpenCV is not installed" not in record.getMessage()


def damaged_dataset(dataset: str | Path, error: Exception) -> UserError:
    """The sentence for a dataset whose files cannot be read."""
    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return UserError(
        f"The dataset {dataset} is damaged or not whole ({reason[0][:200]}); "
        "copy or prepare it again."
    )


def fingerprint(dataset: str | Path) -> str:
    """Tells prepared datasets apart, wherever they lie: by the sizes of all their splits."""
    splits = json.loads((Path(dataset) / "dataset_info.json").read_text())["splits"]
    return hashlib.sha256(json.dumps(splits, sort_keys=True).encode()).hexdigest()[:16]


def _cache() -> Path:
    """The folder of datasets in the user's cache folder (XDG_CACHE_HOME)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hypernet_jax"


def local_dataset(dataset: str | Path) -> Path:
    """A prepared dataset as a local folder; one of a store is copied to the cache folder first.

    Training reads records at random, over and over, and ArrayRecord reads local files alone. The
    copy is named after the address and the dataset's own description, so it is made once.

    Raises:
      UserError: if there is no such dataset, or it cannot be copied.
    """
    place = storage_path(dataset)
    if isinstance(place, Path):
        return place
    names = names_in(place)
    if INFO not in names:
        raise UserError(
            f"There is no prepared dataset {dataset}; check config.data.dataset, and the bucket."
        )
    about = patiently((place / INFO).read_bytes, place)
    tag = hashlib.sha256(str(place).encode() + about).hexdigest()[:16]
    copy = _cache() / "datasets" / tag
    if copy.is_dir():
        return copy
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The folder {copy.parent} cannot be made ({error.strerror}); set XDG_CACHE_HOME."
        ) from None
    with temporary_folder(copy.parent) as working:
        for name in names:
            source = place / name

            def fetch(source=source, target=working / name) -> None:
                with source.open("rb") as there, target.open("wb") as here:
                    shutil.copyfileobj(there, here, 2**24)

            patiently(fetch, source)
        with contextlib.suppress(OSError):  # another process was faster: then its copy serves
            working.rename(copy)
    if not copy.is_dir():
        raise UserError(f"The folder {copy} cannot be made; set XDG_CACHE_HOME to another folder.")
    return copy


def default_dataset() -> Path:
    """The dataset of photographs that installed packages carry, prepared on first use.

    Small, but real: training runs on a fresh machine with no download. It lies
    in the user's cache folder (XDG_CACHE_HOME).
    """
    import skimage

    photographs = Path(skimage.__file__).parent / "data"
    present = [name for name in PACKAGED_PHOTOGRAPHS if (photographs / name).exists()]
    # The name carries what it was made from: another scikit-image gives another dataset.
    tag = hashlib.sha256(
        "".join(f"{name}{(photographs / name).stat().st_size}" for name in present).encode()
    ).hexdigest()[:10]
    dataset = _cache() / f"packaged_photographs-{tag}"
    if dataset.exists():
        return dataset
    with temporary_folder() as folder:
        for name in present:
            (folder / name).symlink_to(photographs / name)
        try:
            prepare_dataset(folder, dataset, held_out=2, progress=False)
        except UserError as error:
            # Another process may have been faster; then its copy serves.
            if not dataset.exists():
                raise UserError(
                    f"The default dataset could not be made ({error}); set XDG_CACHE_HOME to a "
                    "folder with room, or give config.data.dataset."
                ) from None
    return dataset
