"""Finding photographs in folders and reading them as arrays."""

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from hypernet_jax.errors import UserError

__all__ = ["IMAGE_SUFFIXES", "find_images", "read_image"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif")


def find_images(folder: str | Path) -> list[Path]:
    """All image files below a folder, sorted; `UserError` where there are none."""
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"There is no folder {folder}; check the path.")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; give the folder that holds the photographs.")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise UserError(
            f"The folder {folder} holds no image; expected files ending in "
            f"{', '.join(IMAGE_SUFFIXES)}."
        )
    return found


def read_image(path: str | Path, *, colours: int | None = None) -> np.ndarray:
    """Reads an image whole.

    Args:
      path: an image file.
      colours: 3 or 1 to convert to RGB or grey; None keeps grey images grey.

    Returns:
      uint8 (H, W, 3), or (H, W, 1) for grey.

    Raises:
      UserError: one sentence that names the file, if it is missing, no image or damaged.
    """
    path = Path(path)
    try:
        with Image.open(path) as picture:
            grey = picture.mode in ("1", "L", "LA", "I;16", "I", "F")
            mode = "L" if (grey if colours is None else colours == 1) else "RGB"
            image = np.asarray(picture.convert(mode))
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give an image file.") from None
    except PermissionError:
        raise UserError(f"The file {path} may not be read; check its permissions.") from None
    except UnidentifiedImageError:
        raise UserError(f"The file {path} is not an image that can be read.") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"The image {path} is damaged and cannot be read ({error}).") from None
    return image[..., None] if image.ndim == 2 else image
