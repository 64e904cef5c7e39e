"""Finding photographs in folders."""

from pathlib import Path

from hypernet_jax.errors import UserError
from hypernet_jax.files import local_path
from hypernet_jax.images.optional import RAW_SUFFIXES

__all__ = ["IMAGE_SUFFIXES", "find_images", "spread"]

# What photographs are kept in; files with other names are opened when they are named.
IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pfm", ".pgm", ".png"),
    *(".ppm", ".tga", ".tif", ".tiff", ".webp", ".heic", ".heif", ".hif", ".jxl"),
    *RAW_SUFFIXES,
)


def find_images(folder: str | Path, *, leave_out: Path | None = None) -> list[Path]:
    """All image files below a folder, sorted; not hidden ones, nor any below `leave_out`.

    Raises:
      UserError: if there is no folder, or no image in it, or `leave_out` is the folder itself.
    """
    folder = local_path(folder)
    if not folder.exists():
        raise UserError(f"There is no folder {folder}; check the path.")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; give the folder that holds the photographs.")
    left_out = leave_out.resolve() if leave_out is not None else None
    if left_out == folder.resolve():
        raise UserError(
            f"The output folder {leave_out} is the input folder, whose results would be taken "
            "for photographs the next time; choose another."
        )
    if left_out in folder.resolve().parents:  # the folder is among what lies there already
        left_out = None
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or _is_hidden(path, folder):
            continue
        # Asked first: a link that leads to itself is no file, and cannot be resolved.
        if path.is_file() and left_out not in path.resolve().parents:
            found.append(path)
    if not found:
        raise UserError(
            f"The folder {folder} holds no image; expected files ending in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    return found


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether the name of a file below `folder`, or of a folder between, begins with a dot.

    Macs put such files into archives, and they look like images by their names.
    """
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def spread(total: int, count: int) -> list[int]:
    """Indices of `count` of `total` things, evenly spread; of all for 0 or too many."""
    count = min(count or total, total)
    return [index * total // count for index in range(count)]
