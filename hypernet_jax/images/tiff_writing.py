"""Writes TIFF files of 8 and 16 bits and floats, with all EXIF fields."""

import dataclasses
import io
import struct

import numpy as np

from hypernet_jax.images import exif
from hypernet_jax.images.metadata import IPTC, Metadata, tiff_dpi
from hypernet_jax.images.png_writing import joined_samples
from hypernet_jax.images.reading import Photograph

__all__ = ["encode_tiff"]

_RESOLUTION = frozenset({282, 283, 296})
_XMP, _BYTE, _UNDEFINED = 700, 1, 7


def _carried(metadata: Metadata) -> exif.Directories:
    """The fields of the EXIF block, with XMP and IPTC data as further fields."""
    found = exif.Directories("<")
    if metadata.exif is not None:
        found = exif.read_directories(io.BytesIO(metadata.exif))
    image = [field for field in found.image if field.tag not in exif.LAYOUT_TAGS]
    by_tag = {field.tag: field for field in image}
    if metadata.dpi is not None and not _says(metadata.dpi, found.order, by_tag):
        image = [field for field in image if field.tag not in _RESOLUTION]
    if metadata.xmp:
        image.append(exif.Field(_XMP, _BYTE, len(metadata.xmp), metadata.xmp))
    if metadata.iptc and IPTC not in by_tag:
        image.append(exif.Field(IPTC, _UNDEFINED, len(metadata.iptc), metadata.iptc))
    return dataclasses.replace(found, image=tuple(image))


def _says(dpi: tuple[float, float], order: str, by_tag: dict[int, exif.Field]) -> bool:
    """Whether the resolution fields equal `dpi`."""
    found = tiff_dpi(order, by_tag)
    return found is not None and bool(np.allclose(found, dpi, rtol=1e-3))


def encode_tiff(photograph: Photograph) -> tuple[bytes, list[str]]:
    """A TIFF file with deflate compression, and short notes on what it cannot carry."""
    import tifffile

    metadata = photograph.metadata
    carried = _carried(metadata)
    stream = io.BytesIO()
    tifffile.imwrite(
        stream,
        joined_samples(photograph),
        # The byte order of the fields that are copied unchanged.
        byteorder=carried.order,  # type: ignore[arg-type]
        bigtiff=False,
        photometric="rgb" if photograph.pixels.shape[-1] == 3 else "minisblack",
        extrasamples=["unassalpha"] if photograph.alpha is not None else None,
        compression="zlib",
        predictor=True,
        iccprofile=metadata.profile,
        resolution=metadata.dpi,
        resolutionunit="INCH" if metadata.dpi else None,
        software=False,
        metadata=None,
    )
    notes = []
    if carried.damaged:
        notes.append(f"{carried.damaged} damaged or unknown fields of its EXIF data were left out")
    return _with_fields(stream, carried), notes


def _with_fields(stream: io.BytesIO, carried: exif.Directories) -> bytes:
    """The file with a new first directory that joins its own and the carried fields."""
    own = exif.read_directories(stream)
    written = {field.tag for field in carried.image}
    layout = [field for field in own.image if field.tag not in written]
    stream.seek(0, io.SEEK_END)
    # Directories begin at even positions.
    stream.write(b"\0" * (stream.tell() % 2))
    content, pointers = exif.with_pointers(carried, stream.tell())
    stream.write(content)
    start = stream.tell()
    stream.write(exif.serialise(own.order, [*layout, *carried.image, *pointers], start))
    stream.seek(4)
    stream.write(struct.pack(own.order + "I", start))
    return stream.getvalue()
