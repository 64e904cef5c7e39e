"""Opening image files, and what to say where one cannot be read."""

import contextlib
import threading
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from hypernet_jax.errors import UserError

__all__ = ["failures_as_sentences", "open_header"]

_OPENING = threading.Lock()


@contextlib.contextmanager
def failures_as_sentences(path: str | Path):
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
    """Opens an image file of any size: only its header is read; the caller checks the size."""
    # Pillow's limit is a global of its module; it is lifted while a file is opened.
    with _OPENING:
        allowed, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = allowed
