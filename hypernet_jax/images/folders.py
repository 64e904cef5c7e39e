"""Finds photographs in folders."""

from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from hypernet_jax.errors import UserError
from hypernet_jax.files import local_path
from hypernet_jax.images.optional import RAW_SUFFIXES
from hypernet_jax.storage import files_below

__all__ = ["IMAGE_SUFFIXES", "find_images", "images_below", "images_by_name", "spread"]

# Suffixes of photographs in folders; other files are opened only if named explicitly.
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pfm", ".pgm", ".png"),
    *(".ppm", ".tga", ".tif", ".tiff", ".webp", ".heic", ".heif", ".hif", ".jxl"),
    *RAW_SUFFIXES,
)


def images_by_name(folder: Path) -> dict[str, Path]:
    """The images of `find_images` by their names below the folder, without suffixes.

    Raises:
      UserError: as `find_images`, or if two images differ in the suffix alone.
    """
    found: dict[str, Path] = {}
    for path in find_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise UserError(
                f"{folder} has two images {name}, {found[name].name} and {path.name}; remove one."
            )
        found[name] = path
    return found


def find_images(folder: str | Path, *, leave_out: Path | None = None) -> list[Path]:
    """All image files below a folder, sorted, except hidden ones and those below `leave_out`.

    Raises:
      UserError: if the folder does not exist or has no image, or `leave_out` is that folder.
    """
    folder = local_path(folder)
    if not folder.exists():
        raise UserError(f"There is no folder {folder}; check the path.")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; give the folder that holds the photographs.")
    left_out = leave_out.resolve() if leave_out is not None else None
    if left_out == folder.resolve():
        raise UserError(
            f"The output folder {leave_out} is the input folder, so the next run would take the "
            "results for photographs; choose another."
        )
    if left_out in folder.resolve().parents:  # the photographs are inside the output folder
        left_out = None
    found = []
    for path in sorted(folder.rglob("*")):
        if not _is_taken(path.relative_to(folder)):
            continue
        # Checked first: a link to itself is not a file, and cannot be resolved.
        if path.is_file() and left_out not in path.resolve().parents:
            found.append(path)
    if not found:
        raise _without_images(folder)
    return found


def images_below(folder: Any) -> dict[str, int]:
    """Names, relative to a `storage_path`, and sizes in bytes of its images, as `find_images`.

    Raises:
      UserError: if there is none, or the store does not answer.
    """
    if isinstance(folder, Path):
        return {
            path.relative_to(folder).as_posix(): path.stat().st_size for path in find_images(folder)
        }
    sizes = files_below(folder)
    names = sorted(PurePosixPath(name) for name in sizes if _is_taken(PurePosixPath(name)))
    if not names:
        raise _without_images(folder)
    return {str(name): sizes[str(name)] for name in names}


def _without_images(folder: Any) -> UserError:
    if isinstance(folder, Path) and (folder / "dataset_info.json").exists():
        return UserError(f"{folder} is a prepared dataset; give a folder of photographs.")
    return UserError(
        f"The folder {folder} holds no image; expected files ending in {', '.join(IMAGE_SUFFIXES)}."
    )


def _is_taken(path: PurePath) -> bool:
    """Whether a file of a folder is an image and not hidden: no part of its path has a dot first.

    macOS adds such files to archives, with names like those of images.
    """
    return path.suffix.lower() in IMAGE_SUFFIXES and not any(
        part.startswith(".") for part in path.parts
    )


def spread(total: int, count: int) -> list[int]:
    """`count` evenly spread indices of `total` items; all of them for 0 or too large a count."""
    count = min(count or total, total)
    return [index * total // count for index in range(count)]
