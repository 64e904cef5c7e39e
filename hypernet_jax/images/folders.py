"""Finds photographs in folders."""

from pathlib import Path

from hypernet_jax.errors import UserError
from hypernet_jax.files import local_path
from hypernet_jax.images.optional import RAW_SUFFIXES

__all__ = ["IMAGE_SUFFIXES", "find_images", "spread"]

# Suffixes of photographs in folders; other files are opened only if named explicitly.
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pfm", ".pgm", ".png"),
    *(".ppm", ".tga", ".tif", ".tiff", ".webp", ".heic", ".heif", ".hif", ".jxl"),
    *RAW_SUFFIXES,
)


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
        if path.suffix.lower() not in IMAGE_SUFFIXES or _is_hidden(path, folder):
            continue
        # Checked first: a link to itself is not a file, and cannot be resolved.
        if path.is_file() and left_out not in path.resolve().parents:
            found.append(path)
    if not found:
        raise UserError(
            f"The folder {folder} holds no image; expected files ending in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    return found


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether the name of a file below `folder`, or of a folder in between, begins with a dot.

    macOS adds such files to archives, with names like those of images.
    """
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def spread(total: int, count: int) -> list[int]:
    """`count` evenly spread indices of `total` items; all of them for 0 or too large a count."""
    count = min(count or total, total)
    return [index * total // count for index in range(count)]
