"""Every readable format to every writable one: the table in docs/howto/formats.md."""

import re

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from hypernet_jax.images.pfm import encode_pfm
from hypernet_jax.images.reading import read_photograph
from hypernet_jax.photographs.restoring import restore_file

from .conftest import REPOSITORY
from .models import RESTORER
from .raw_files import dng

heif = pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")

OUTPUTS = ("png", "jpg", "webp", "tif", "bmp", "avif", "pfm", "jxl")
# Largest mean error of lossy writers, in grey levels.
LOSSY = {"jpg": 4.0, "avif": 4.0}


def deep(pixels):
    return pixels.astype(np.uint16) * 257


def saved(pixels, path, **options):
    Image.fromarray(pixels).save(path, **options)


def heic(pixels, path, bits):
    heif.register_heif_opener()
    if bits == 8:
        saved(pixels, path, quality=95)
        return
    size = pixels.shape[1::-1]
    heif.from_bytes(mode="RGB;16", size=size, data=deep(pixels).tobytes()).save(path, quality=95)


# Title, suffix, and function that writes it.
INPUTS = {
    "PNG, 8 bits": ("png", saved),
    "PNG, 16 bits": (
        "png",
        lambda pixels, path: path.write_bytes(imagecodecs.png_encode(deep(pixels))),
    ),
    "JPEG": ("jpg", lambda pixels, path: saved(pixels, path, quality=95)),
    "WebP": ("webp", lambda pixels, path: saved(pixels, path, lossless=True)),
    "TIFF, 8 bits": ("tif", lambda pixels, path: tifffile.imwrite(path, pixels)),
    "TIFF, 16 bits": ("tif", lambda pixels, path: tifffile.imwrite(path, deep(pixels))),
    "TIFF, floats": (
        "tif",
        lambda pixels, path: tifffile.imwrite(path, np.float32(pixels / 255), photometric="rgb"),
    ),
    "BMP": ("bmp", saved),
    "AVIF, 8 bits": ("avif", lambda pixels, path: saved(pixels, path, quality=95)),
    "GIF": ("gif", saved),
    "PPM": ("ppm", saved),
    "PFM": ("pfm", lambda pixels, path: path.write_bytes(encode_pfm(np.float32(pixels / 255)))),
    "TGA": ("tga", saved),
    "JPEG 2000": ("jp2", saved),
    "HEIF, 8 bits": ("heic", lambda pixels, path: heic(pixels, path, 8)),
    "HEIF, 10 bits": ("heic", lambda pixels, path: heic(pixels, path, 10)),
    "JPEG XL": (
        "jxl",
        lambda pixels, path: path.write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=True)),
    ),
    "DNG": ("dng", lambda pixels, path: dng(path, pixels)),
}


def depth_of(path):
    photograph = read_photograph(path)
    return "float" if photograph.depth == 32 else str(photograph.depth)


def cells():
    """The table of the page: bit depth of each output, by input."""
    text = (REPOSITORY / "docs" / "howto" / "formats.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \|((?: (?:8|16|float) \|){8})$", text, re.MULTILINE)
    return {name: cells.strip(" |").split(" | ") for name, cells in rows}


def test_the_table_names_all():
    text = (REPOSITORY / "docs" / "howto" / "formats.md").read_text()
    assert "| from \\ to | PNG | JPEG | WebP | TIFF | BMP | AVIF | PFM | JPEG XL |" in text
    assert list(cells()) == list(INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_each_cell(name, photograph, tmp_path):
    pytest.importorskip("pillow_jxl", reason="the extra `jxl` is not installed")
    pytest.importorskip("rawpy", reason="the extra `raw` is not installed")
    ending, write = INPUTS[name]
    source = tmp_path / f"in.{ending}"
    write(np.ascontiguousarray(photograph[100:148, 200:264]), source)
    held = read_photograph(source).pixels
    unit = 1.0 if held.dtype.kind == "f" else np.iinfo(held.dtype).max
    expected = RESTORER.restore(held, level=20) / unit
    found = []
    for output in OUTPUTS:
        path = tmp_path / f"out.{output}"
        restore_file(RESTORER, source, path, level=20)
        read = read_photograph(path).pixels
        unit = 1.0 if read.dtype.kind == "f" else np.iinfo(read.dtype).max
        distance = 255 * np.abs(read / unit - expected)
        assert distance.mean() < LOSSY.get(output, 0.5), output
        found.append(depth_of(path))
    assert found == cells().get(name), " | ".join(found)
