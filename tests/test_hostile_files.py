"""Small files that ask for much memory or for other programs are refused, or read without it."""

import tracemalloc
from zlib import compress, crc32

import numpy as np
import pytest
import tifffile
from PIL import Image

from hypernet_jax import UserError
from hypernet_jax.images import xmp
from hypernet_jax.images.reading import read_photograph


def chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + crc32(name + content).to_bytes(4)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n{} loop\n"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(64)),
    ],
    ids=["EPS", "HDF5"],
)
def test_what_other_programs_would_draw_is_not_a_supported_format(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"is not an image in a supported format"):
        read_photograph(tmp_path / name)


@pytest.mark.parametrize("behind", [False, True], ids=["before the end", "behind the end"])
@pytest.mark.parametrize("content", [b"\0", b"0 "], ids=["one word", "many words"])
def test_texts_of_png_are_inflated_up_to_a_limit(content, behind, tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "in.png")
    whole = (tmp_path / "in.png").read_bytes()
    bomb = chunk(b"zTXt", b"Raw profile type exif\0\0" + compress(content * (300 << 20), 1))
    # Pillow itself refuses so long a text that it sees.
    end = len(whole) if behind else len(whole) - 12
    (tmp_path / "in.png").write_bytes(whole[:end] + bomb + whole[end:])
    tracemalloc.start()
    try:
        if behind:
            assert read_photograph(tmp_path / "in.png").metadata.texts == ()
        else:
            with pytest.raises(UserError, match="cannot be read"):
                read_photograph(tmp_path / "in.png")
        assert tracemalloc.get_traced_memory()[1] < 160 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiles_are_not_much_larger_than_their_image(dtype, tmp_path):
    image = np.full((64, 64, 3), 7, dtype)
    for side in (64, 512):
        tifffile.imwrite(tmp_path / "in.tif", image, tile=(side, side), photometric="rgb")
        np.testing.assert_array_equal(read_photograph(tmp_path / "in.tif").pixels, image)
    tifffile.imwrite(tmp_path / "in.tif", image[..., 0], tile=(8192, 8192), compression="zlib")
    with pytest.raises(UserError, match="has tiles of 8192x8192 pixels for 64x64 pixels"):
        read_photograph(tmp_path / "in.tif")


def test_hex_that_is_within_the_limit_needs_little_memory(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "in.png")
    whole = (tmp_path / "in.png").read_bytes()
    text = compress(b"\nexif\n9\n" + b"00 " * (5 << 20))
    (tmp_path / "in.png").write_bytes(
        whole[:-12] + chunk(b"zTXt", b"Raw profile type exif\0\0" + text) + whole[-12:]
    )
    tracemalloc.start()
    try:
        assert "EXIF data are damaged" in read_photograph(tmp_path / "in.png").notes[0]
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_xmp_of_many_namespaces_is_not_read():
    def declaring(count):
        names = " ".join(f"xmlns:p{at}='u'" for at in range(count))
        return f"<rdf:RDF {names}><tiff:Orientation>6</tiff:Orientation></rdf:RDF>".encode()

    assert xmp.orientation_of(declaring(200)) == 6
    assert xmp.orientation_of(declaring(5000)) is None


def test_xmp_that_is_nested_deeply_is_not_read():
    def nested(depth):
        inside = "<tiff:Orientation>6</tiff:Orientation>"
        for at in range(depth):
            inside = f"<rdf:Description xmlns:p{at}='u'>{inside}</rdf:Description>"
        return inside.encode()

    assert xmp.orientation_of(nested(20)) == 6
    tracemalloc.start()
    try:
        assert xmp.without(nested(20_000), xmp.ORIENTATION) is None
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
