"""What Pillow does not write: 16-bit PNG files, and TIFF files with all of their EXIF data."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from hypernet_jax.restoration.metadata import KEPT_TAGS, Metadata
from hypernet_jax.restoration.reading import Photograph

__all__ = ["deep_png", "tiff_file"]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png_chunks(metadata: Metadata) -> bytes:
    chunks = []
    if metadata.profile:
        chunks.append((b"iCCP", b"ICC Profile\0\0" + zlib.compress(metadata.profile)))
    if metadata.dpi:
        # Dots per inch as pixels per metre.
        per_metre = [round(dpi / 0.0254) for dpi in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if metadata.exif is not None:
        chunks.append((b"eXIf", metadata.exif.tobytes().removeprefix(b"Exif\0\0")))
    if metadata.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    return b"".join(_chunk(*chunk) for chunk in chunks)


def _samples(photograph: Photograph) -> np.ndarray:
    parts = [photograph.pixels]
    if photograph.alpha is not None:
        parts.append(photograph.alpha)
    samples = np.concatenate(parts, axis=-1) if len(parts) > 1 else photograph.pixels
    return np.ascontiguousarray(samples[..., 0] if samples.shape[-1] == 1 else samples)


def deep_png(photograph: Photograph) -> bytes:
    """A PNG file of 16 bits per channel."""
    import imagecodecs

    content = bytes(imagecodecs.png_encode(_samples(photograph), level=6))
    # After the signature and the header, before the pixels.
    start = 8 + 25
    return content[:start] + _png_chunks(photograph.metadata) + content[start:]


def _exif_directories(metadata: Metadata) -> dict[int, ImageFileDirectory_v2]:
    found = {}
    for tag in (IFD.Exif, IFD.GPSInfo):
        entries = metadata.exif.get_ifd(tag) if metadata.exif is not None else {}
        if entries:
            directory = ImageFileDirectory_v2(prefix=b"II")
            directory.update(entries)
            found[int(tag)] = directory
    return found


def _tag(tag: int, value: Any) -> tuple:
    """A tag as tifffile takes it: a number, text, or bytes (which Pillow may hold as a tuple)."""
    if isinstance(value, int):
        return int(tag), "H" if value < 1 << 16 else "I", 1, value, True
    if isinstance(value, (bytes, tuple)):
        return int(tag), "B", len(value), bytes(value), True
    return int(tag), "s", 0, str(value).encode("utf-8", "replace"), True


def _plain_tags(metadata: Metadata) -> list[tuple]:
    exif = metadata.exif if metadata.exif is not None else {}
    kept = [_tag(tag, exif[tag]) for tag in KEPT_TAGS if tag in exif]
    if metadata.xmp:
        kept.append(_tag(Base.XMLPacket, metadata.xmp))
    return kept


def tiff_file(photograph: Photograph) -> bytes:
    """A TIFF file of 8 or 16 bits per channel, deflated."""
    import tifffile

    samples, metadata = _samples(photograph), photograph.metadata
    directories = _exif_directories(metadata)
    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        samples,
        byteorder="<",
        photometric="rgb" if photograph.pixels.shape[-1] == 3 else "minisblack",
        extrasamples=["unassalpha"] if photograph.alpha is not None else None,
        compression="zlib",
        predictor=True,
        iccprofile=metadata.profile,
        resolution=metadata.dpi,
        resolutionunit="INCH" if metadata.dpi else None,
        software=False,
        metadata=None,
        # A place for each directory's position, known once the file is written; under
        # the number before its own, since tifffile refuses tags that point somewhere.
        extratags=[*_plain_tags(metadata), *((tag - 1, "I", 1, 0, True) for tag in directories)],
    )
    for tag, directory in directories.items():
        _append_directory(stream, tag, directory)
    return stream.getvalue()


def _append_directory(stream: io.BytesIO, tag: int, directory: ImageFileDirectory_v2) -> None:
    import tifffile

    stream.seek(0, io.SEEK_END)
    # Directories begin at even positions.
    stream.write(b"\0" * (stream.tell() % 2))
    position = stream.tell()
    stream.write(directory.tobytes(position))
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        entry = file.pages.first.tags[tag - 1]
    # An entry is its number, type, count, and here the value itself.
    stream.seek(entry.offset)
    stream.write(struct.pack("<H", tag))
    stream.seek(entry.valueoffset)
    stream.write(struct.pack("<I", position))
