"""Preparing a dataset: photographs -> a folder of ArrayRecord files."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypernet_jax.errors import UserError

__all__ = ["LAYOUTS", "PACKAGED_PHOTOGRAPHS", "default_dataset", "open_split", "prepare_dataset"]

LAYOUTS = ("folder", "div2k")

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
    stride: int = 192,
    held_out: int = 8,
    strict: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = print,
    progress: bool = True,
) -> dict[str, int]:
    """Cuts photographs into sub-images and stores them as a TFDS dataset.

    Args:
      source: a folder of photographs, or the folder that holds DIV2K's two HR folders.
      output: the folder to make. It appears only when it is complete.
      layout: "folder" or "div2k".
      size, stride: see `Photographs`.
      held_out: photographs kept for validation (layout "folder").
      strict: refuse an unreadable or too small image instead of skipping it.
      overwrite: replace an existing `output`.
      report: called with a sentence for each image that is skipped.
      progress: draw a progress bar.

    Returns:
      The number of sub-images per split.
    """
    # TFDS takes seconds to import and is needed by nobody who only restores.
    import tensorflow_datasets as tfds
    import tqdm

    from hypernet_jax.data.builders import Div2kHr, Photographs

    if layout not in LAYOUTS:
        raise UserError(f"Unknown layout {layout!r}; choose one of {', '.join(LAYOUTS)}.")
    if not 0 < stride <= size:
        raise UserError(f"The stride {stride} must lie between 1 and the size, {size}.")
    output = Path(output).absolute()
    if output.exists() and not overwrite:
        raise UserError(f"{output} already exists; choose another folder or pass --overwrite.")

    def skip(sentence: str) -> None:
        if strict:
            raise UserError(f"{sentence.rstrip('.')}; refused because of --strict.")
        report(f"Skipped: {sentence}")

    def bar(paths):
        return tqdm.tqdm(
            paths, desc="photographs", unit="photo", disable=None if progress else True
        )

    tfds.disable_progress_bar()
    builder_class = Photographs if layout == "folder" else Div2kHr
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        working = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    except OSError as error:
        raise UserError(f"The folder {output} cannot be made ({error.strerror}).") from None
    try:
        builder = builder_class(
            source=source,
            size=size,
            stride=stride,
            held_out=held_out,
            skip=skip,
            progress=bar,
            data_dir=working / "tfds",
        )
        builder.download_and_prepare()
        counts = {name: split.num_examples for name, split in builder.info.splits.items()}
        if output.exists():
            shutil.rmtree(output)
        os.replace(builder.data_path, output)
    except OSError as error:
        raise UserError(f"The dataset {output} could not be written ({error}).") from None
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return counts


def open_split(dataset: str | Path, split: str):
    """A random-access source of {"image": uint8 (H, W, 3), ...} records."""
    import tensorflow_datasets as tfds

    if not Path(dataset).is_dir():
        raise UserError(f"There is no dataset {dataset}; check config.data.dataset.")
    if not (Path(dataset) / "dataset_info.json").exists():
        raise UserError(
            f"The folder {dataset} is not a prepared dataset; make one from photographs with "
            f"`hypernet-jax prepare {dataset} -o DATASET` and give that."
        )
    builder = tfds.builder_from_directory(str(dataset))
    if split not in builder.info.splits:
        raise UserError(f"The dataset {dataset} has no split {split!r}; prepare it again.")
    return builder.as_data_source(split=split)


def default_dataset() -> Path:
    """The dataset of photographs that installed packages carry, prepared on first use.

    Small, but real: training runs on a fresh machine with no download. It lies
    in the user's cache folder (XDG_CACHE_HOME).
    """
    import skimage

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hypernet_jax"
    photographs = Path(skimage.__file__).parent / "data"
    present = [name for name in PACKAGED_PHOTOGRAPHS if (photographs / name).exists()]
    # The name carries what it was made from: another scikit-image gives another dataset.
    tag = hashlib.sha256(
        "".join(f"{name}{(photographs / name).stat().st_size}" for name in present).encode()
    ).hexdigest()[:10]
    dataset = cache / f"packaged_photographs-{tag}"
    if dataset.exists():
        return dataset
    with tempfile.TemporaryDirectory() as folder:
        for name in present:
            (Path(folder) / name).symlink_to(photographs / name)
        # Another process may have been faster; then its copy serves.
        with contextlib.suppress(UserError):
            prepare_dataset(folder, dataset, held_out=2, progress=False)
    if not dataset.exists():
        raise UserError(f"The default dataset could not be made in {cache}; set XDG_CACHE_HOME.")
    return dataset
