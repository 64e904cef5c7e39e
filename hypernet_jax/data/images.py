"""Finding photographs in folders and reading them as arrays."""

import contextlib
import threading
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from hypernet_jax.errors import UserError
from hypernet_jax.files import local_path

__all__ = [
    "IMAGE_SUFFIXES",
    "find_images",
    "is_hidden",
    "open_header",
    "open_image",
    "read_image",
    "spread",
    "told_of",
]

_OPENING = threading.Lock()
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif")


def find_images(folder: str | Path) -> list[Path]:
    """All image files below a folder but hidden ones, sorted; `UserError` where there are none."""
    folder = local_path(folder)
    if not folder.exists():
        raise UserError(f"There is no folder {folder}; check the path.")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; give the folder that holds the photographs.")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() and not is_hidden(path, folder)
    )
    if not found:
        raise UserError(
            f"The folder {folder} holds no image; expected files ending in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    return found


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether the name of a file below `folder`, or of a folder between, begins with a dot.

    Macs put such files into archives, and they look like images by their names.
    """
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def spread(total: int, count: int) -> list[int]:
    """Indices of `count` of `total` things, evenly spread; of all for 0 or too many."""
    count = min(count or total, total)
    return [index * total // count for index in range(count)]


@contextlib.contextmanager
def told_of(path: str | Path):
    """Turns what goes wrong in opening or decoding an image into a sentence that names the file."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give an image file.") from None
    except PermissionError:
        raise UserError(f"The file {path} may not be read; check its permissions.") from None
    except UnidentifiedImageError:
        raise UserError(
            f"The file {path} is not an image that can be read; give a PNG, JPEG, WebP or the like."
        ) from None
    except Image.DecompressionBombError:
        raise UserError(f"The image {path} has too many pixels to be opened safely.") from None
    except MemoryError:
        raise UserError(f"The image {path} needs more memory than there is.") from None
    # Decoders raise whatever their parsers stumble over in a damaged file.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"The image {path} is damaged and cannot be read ({reason}); use an intact copy."
        ) from None


def open_header(path: str | Path) -> ImageFile.ImageFile:
    """Opens an image file of any size: only its header is read, and the caller sees to the size."""
    # Pillow's limit is a global of its module: lifted for the moment of opening.
    with _OPENING:
        allowed, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = allowed


def open_image(path: str | Path) -> Image.Image:
    """Opens and fully decodes an image.

    Raises:
      UserError: one sentence that names the file, if it is missing, no image or damaged.
    """
    with told_of(path):
        picture = Image.open(Path(path))
        picture.load()
    return picture


def read_image(path: str | Path, *, colours: int | None = None) -> np.ndarray:
    """Reads an image as 8-bit pixels, turned upright as its EXIF orientation says.

    Args:
      path: an image file.
      colours: 3 or 1 to convert to RGB or grey; None keeps grey images grey.

    Returns:
      uint8 (H, W, 3), or (H, W, 1) for grey. Transparency is dropped.

    Raises:
      UserError: as `open_image`.
    """
    picture = open_image(path)
    # What is no EXIF data, whatever Pillow makes of it, tells no orientation.
    with contextlib.suppress(Exception):
        picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F"):
        raise UserError(
            f"The image {path} has 32 bits per sample, whose range is not known; "
            "convert it to 8 or 16 bits."
        )
    grey = picture.mode in ("1", "L", "LA", "I;16", "I;16B")
    if picture.mode.startswith("I"):
        # Pillow would clip 16-bit samples to 255 instead of scaling them.
        wide = np.asarray(picture, np.float64)
        picture = Image.fromarray(np.round(wide / 257.0).astype(np.uint8))
    mode = "L" if (grey if colours is None else colours == 1) else "RGB"
    image = np.asarray(picture.convert(mode))
    return image[..., None] if image.ndim == 2 else image
