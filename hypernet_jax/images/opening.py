"""Opens image files, and reports in one sentence why one cannot be read."""

import contextlib
import threading
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from hypernet_jax.errors import UserError

__all__ = ["failures_as_sentences", "open_header"]

_OPENING = threading.Lock()
# Formats whose pixels Pillow leaves to other programs (Ghostscript for EPS) or cannot decode.
_WITHOUT_PIXELS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})


@contextlib.contextmanager
def failures_as_sentences(path: str | Path):
    """Turns errors in opening or decoding an image into a `UserError` that names the file."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"There is no file {path}; check the path.") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; give an image file.") from None
    except PermissionError:
        raise UserError(f"The file {path} is not readable; check its permissions.") from None
    except UnidentifiedImageError:
        raise UserError(
            f"The file {path} is not an image in a supported format; give a PNG, JPEG, WebP or "
            "similar file."
        ) from None
    except Image.DecompressionBombError:
        raise UserError(
            f"The image {path} has too many pixels to be opened safely; give a smaller one."
        ) from None
    except MemoryError:
        raise UserError(
            f"The image {path} needs more memory than there is; close other programs."
        ) from None
    # For a damaged file, decoders raise any kind of exception.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"The image {path} is damaged and cannot be read ({reason}); use an intact copy."
        ) from None


def open_header(path: str | Path) -> ImageFile.ImageFile:
    """Opens an image file of any size and reads only its header; the caller checks the size."""
    # Pillow's size limit is a module global; it is lifted while a file is opened.
    with _OPENING:
        allowed, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            picture = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = allowed
    if picture.format in _WITHOUT_PIXELS:
        picture.close()
        raise UnidentifiedImageError
    return picture
