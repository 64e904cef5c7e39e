"""Writes PNG files of 8 and 16 bits per channel with all metadata of a photograph."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from hypernet_jax.images.metadata import Metadata
from hypernet_jax.images.png_chunks import Chunk, with_chunks
from hypernet_jax.images.reading import Photograph

__all__ = ["encode_png", "joined_samples"]

_COMMENT = b"Comment\0"


def _chunks(metadata: Metadata) -> list[Chunk]:
    chunks = list(metadata.colours)
    if metadata.profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.profile)))
    if metadata.dpi:
        # Dots per inch as pixels per metre.
        per_metre = [round(dpi / 0.0254) for dpi in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if metadata.exif is not None:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    comments = [_comment(comment) for comment in metadata.comments]
    chunks += [comment for comment in comments if comment not in metadata.texts]
    return [*chunks, *metadata.texts]


def _comment(comment: bytes) -> Chunk:
    """A comment as a text chunk, UTF-8 if it is valid, else Latin-1; null bytes are removed."""
    comment = comment.replace(b"\0", b"")
    try:
        comment.decode("ascii")
    except UnicodeDecodeError:
        try:
            comment.decode("utf-8")
        except UnicodeDecodeError:
            return b"tEXt", _COMMENT + comment
        return b"iTXt", _COMMENT + b"\0\0\0\0" + comment
    return b"tEXt", _COMMENT + comment


def joined_samples(photograph: Photograph) -> np.ndarray:
    """Pixels and transparency as one array, (H, W) for opaque grey, otherwise (H, W, C)."""
    parts = [photograph.pixels]
    if photograph.alpha is not None:
        parts.append(photograph.alpha)
    samples = np.concatenate(parts, axis=-1) if len(parts) > 1 else photograph.pixels
    return np.ascontiguousarray(samples[..., 0] if samples.shape[-1] == 1 else samples)


def encode_png(photograph: Photograph) -> bytes:
    """Encodes a PNG file with the photograph's bit depth, 8 or 16."""
    samples = joined_samples(photograph)
    if photograph.depth == 16:
        import imagecodecs

        content = bytes(imagecodecs.png_encode(samples, level=6))
    else:
        stream = io.BytesIO()
        Image.fromarray(samples).save(stream, "PNG")
        content = stream.getvalue()
    return with_chunks(content, _chunks(photograph.metadata))
