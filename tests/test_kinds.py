"""Unusual files: those that can be read, and correct reasons for refusing others."""

import struct
from zlib import compress, crc32

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from hypernet_jax import UserError
from hypernet_jax.images.pfm import encode_pfm
from hypernet_jax.images.png_chunks import with_chunks
from hypernet_jax.images.reading import read_photograph
from hypernet_jax.photographs.restoring import Options, restore_file

from . import tiff_blocks
from .models import RESTORER

IDENTITY = Options(0.0, blend=0.0)
RAMP = np.linspace(0, 1, 20 * 24 * 3, dtype=np.float32).reshape(20, 24, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floats_from_0_to_1_stay_floats(dtype, channels, order, tmp_path):
    samples = np.concatenate([RAMP, RAMP[..., :1]], axis=-1)[..., -channels:].astype(dtype)
    tifffile.imwrite(
        tmp_path / "in.tif",
        samples[..., 0] if channels == 1 else samples,
        photometric="rgb" if channels > 2 else "minisblack",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        byteorder=order,
    )
    restored = restore_file(RESTORER, tmp_path / "in.tif", tmp_path / "out.tif", IDENTITY)
    out = tifffile.imread(tmp_path / "out.tif").reshape(samples.shape)
    assert out.dtype == (np.float16 if dtype is np.float16 else np.float32)
    np.testing.assert_array_equal(out, samples.astype(out.dtype))
    assert ("64-bit" in " ".join(restored.notes)) == (dtype is np.float64)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("big_endian", [False, True])
def test_float_maps(channels, big_endian, tmp_path):
    samples = RAMP[..., :channels]
    content = encode_pfm(samples)
    if big_endian:
        head, _, _ = content.partition(b"-1.0\n")
        content = head + b"1.0\n" + samples[::-1].astype(">f4").tobytes()
    (tmp_path / "in.pfm").write_bytes(content)
    restore_file(RESTORER, tmp_path / "in.pfm", tmp_path / "out.pfm", IDENTITY)
    np.testing.assert_array_equal(read_photograph(tmp_path / "out.pfm").pixels, samples)
    restored = restore_file(RESTORER, tmp_path / "in.pfm", tmp_path / "out.png", IDENTITY)
    assert restored.notes == ("PNG has 16 bits per channel: the floats were rounded",)
    found = read_photograph(tmp_path / "out.png").pixels
    np.testing.assert_array_equal(found, np.round(samples * np.float32(65535)))


def test_bmp_of_16_bits_per_pixel(tmp_path):
    width, height = 8, 6
    packed = np.random.default_rng(0).integers(0, 1 << 16, (height, width), np.uint16)
    for compression, masks in ((3, (0xF800, 0x7E0, 0x1F)), (0, ())):
        head = struct.pack(
            "<IiiHHIIiiII", 40, width, height, 1, 16, compression, packed.nbytes, 0, 0, 0, 0
        ) + struct.pack(f"<{len(masks)}I", *masks)
        file = struct.pack("<IHHI", 14 + len(head) + packed.nbytes, 0, 0, 14 + len(head))
        (tmp_path / "in.bmp").write_bytes(b"BM" + file + head + packed.astype("<u2").tobytes())
        found = read_photograph(tmp_path / "in.bmp").pixels
        with Image.open(tmp_path / "in.bmp") as picture:
            np.testing.assert_array_equal(found, np.asarray(picture.convert("RGB")))


REFUSED = {
    "u32": ((RAMP * 2**31).astype(np.uint32), {}, "32-bit integer samples"),
    "i16": ((RAMP * 2**15 - 2**14).astype(np.int16), {}, "signed 16-bit samples"),
    "i8": ((RAMP * 100).astype(np.int8), {}, "signed 8-bit samples"),
    "u64": ((RAMP * 2**40).astype(np.uint64), {}, "64-bit integer samples"),
    "c64": (RAMP[..., 0].astype(np.complex64), {"photometric": "minisblack"}, "complex numbers"),
    "above": (RAMP * 2, {}, "floating-point samples from 0 to 2"),
    "nan": (np.where(RAMP > 0.5, np.nan, RAMP), {}, "not finite numbers"),
    "cmyk16": (
        np.zeros((9, 8, 4), np.uint16), {"photometric": "separated"}, "SEPARATED in 16 bits"
    ),
    "five": (
        np.zeros((9, 8, 5), np.uint16), {"extrasamples": ["unspecified"] * 2}, "of unknown meaning"
    ),
    "pages": (np.zeros((2, 9, 8), np.float32), {"photometric": "minisblack"}, "2 frames or pages"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_gives_the_true_reason(kind, tmp_path):
    samples, options, reason = REFUSED[kind]
    tifffile.imwrite(tmp_path / "in.tif", samples, **({"photometric": "rgb"} | options))
    with pytest.raises(UserError, match=reason) as error:
        read_photograph(tmp_path / "in.tif")
    assert "damaged" not in str(error.value) and "not an image" not in str(error.value)


@pytest.mark.parametrize("compression", ["webp", "jpegxl", "zstd", "lzma", "png"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_rare_compressions_are_read_or_named(compression, dtype, tmp_path):
    if compression == "webp" and dtype is np.uint16:
        return
    samples = (RAMP * np.iinfo(dtype).max).astype(dtype)
    tifffile.imwrite(
        tmp_path / "in.tif",
        samples,
        photometric="rgb",
        compression=compression,
        compressionargs={"lossless": True} if compression == "jpegxl" else None,
    )
    found = read_photograph(tmp_path / "in.tif").pixels
    assert found.dtype == dtype
    error = np.abs(found.astype(int) - samples).max()
    assert error <= (0 if compression != "webp" else 40)


def test_a_compression_that_is_not_known_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "in.tif", (RAMP * 255).astype(np.uint8), photometric="rgb")
    content = bytearray((tmp_path / "in.tif").read_bytes())
    at = content.index(struct.pack("<HHII", 259, 3, 1, 1)) + 8
    content[at : at + 2] = struct.pack("<H", 32809)  # ThunderScan
    (tmp_path / "in.tif").write_bytes(content)
    with pytest.raises(UserError, match="compressed as THUNDERSCAN"):
        read_photograph(tmp_path / "in.tif")


@pytest.mark.parametrize("orientation", [0, 9, (6, 6), "6"])
@pytest.mark.parametrize("deep", [False, True])
def test_odd_orientations_of_tiff_files(orientation, deep, tmp_path):
    samples = (RAMP * 255).astype(np.uint8)
    samples = samples.astype(np.uint16) * 257 if deep else samples
    kinds = {int: ("H", 1), tuple: ("H", 2), str: ("s", 0)}
    kind, count = kinds[type(orientation)]
    tifffile.imwrite(
        tmp_path / "in.tif",
        samples,
        photometric="rgb",
        extratags=[(274, kind, count, orientation, True)],
    )
    # Of two values the first one counts.
    turned = orientation == (6, 6)
    expected = np.rot90(samples, -1) if turned else samples
    np.testing.assert_array_equal(read_photograph(tmp_path / "in.tif").pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_uncompressed_grey_tiff_files_are_turned_rightly(orientation, tmp_path):
    samples = (RAMP[..., 0] * 255).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "in.tif",
        samples,
        photometric="minisblack",
        extratags=[(274, "H", 1, orientation, True)],
    )
    tags = Image.Exif()
    tags[0x112] = orientation
    Image.fromarray(samples).save(tmp_path / "in.png", exif=tags)
    found = read_photograph(tmp_path / "in.tif").pixels
    np.testing.assert_array_equal(found, read_photograph(tmp_path / "in.png").pixels)


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
@pytest.mark.parametrize("profile", [b"no profile " * 20, b"", None])
def test_inks_and_lab_with_a_broken_profile_are_converted(mode, profile, tmp_path):
    picture = Image.fromarray((RAMP * 255).astype(np.uint8))
    picture = picture.convert("CMYK") if mode == "CMYK" else Image.merge("LAB", picture.split())
    picture.save(tmp_path / "in.tif", icc_profile=profile)
    found = read_photograph(tmp_path / "in.tif")
    assert found.pixels.shape == RAMP.shape
    word = "plain formula" if mode == "CMYK" else "Lab was converted to sRGB"
    assert word in found.notes[0]


def test_16_bit_ppm_of_any_greatest_value(tmp_path):
    for greatest in (256, 1023, 4095, 65535):
        for magic, channels in ((b"P5", 1), (b"P6", 3)):
            samples = np.round(RAMP[..., :channels] * greatest)
            head = magic + b"\n# a comment\n24 20\n%d\n" % greatest
            (tmp_path / "in.ppm").write_bytes(head + samples.astype(">u2").tobytes())
            found = read_photograph(tmp_path / "in.ppm").pixels
            expected = np.round(samples.astype(np.float64) * (65535 / greatest))
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("head", [b"P2\n2 2\n65535\n1 2 3 4\n", b"P3 1 1 1023 5 6 7"])
def test_plain_ppm_of_more_than_8_bits_is_named(head, tmp_path):
    (tmp_path / "in.ppm").write_bytes(head)
    with pytest.raises(UserError, match="plain PGM or PPM file of more than 8 bits"):
        read_photograph(tmp_path / "in.ppm")


def test_float_maps_with_other_line_ends(tmp_path):
    body = RAMP[::-1].astype("<f4").tobytes()
    (tmp_path / "in.pfm").write_bytes(b"PF\r\n24 20\r\n-1.0\r\n" + body)
    np.testing.assert_array_equal(read_photograph(tmp_path / "in.pfm").pixels, RAMP)


@pytest.mark.parametrize("bits", [2, 4])
def test_transparent_greys_of_few_bits(bits, tmp_path):
    greys = np.array([0, 1, 2, 3], np.uint8)
    packed = bytes([sum(int(g) << (8 - bits * (i + 1)) for i, g in enumerate(greys[: 8 // bits]))])
    packed += b"" if bits == 2 else bytes([int(greys[2]) << 4 | int(greys[3])])

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data))

    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0))
    content += chunk(b"tRNS", b"\0\2") + chunk(b"IDAT", compress(b"\0" + packed))
    (tmp_path / "in.png").write_bytes(content + chunk(b"IEND", b""))
    found = read_photograph(tmp_path / "in.png")
    np.testing.assert_array_equal(found.alpha[0, :, 0], [255, 255, 0, 255])
    np.testing.assert_array_equal(found.pixels[0, :, 0], greys * (255 // (2**bits - 1)))


@pytest.mark.parametrize("bits", [2, 4, 7, 8])
def test_jpeg_2000_of_few_bits_is_not_dark(bits, tmp_path):
    samples = np.round(RAMP * (2**bits - 1)).astype(np.uint8)
    content = imagecodecs.jpeg2k_encode(
        samples, level=0, bitspersample=bits, reversible=True, codecformat="jp2"
    )
    (tmp_path / "in.jp2").write_bytes(content)
    found = read_photograph(tmp_path / "in.jp2").pixels
    np.testing.assert_allclose(found, samples * (255 / (2**bits - 1)), atol=1)


def test_tga_without_bits_of_transparency_is_opaque(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[..., :3] = 90
    Image.fromarray(pixels).save(tmp_path / "in.tga")
    content = bytearray((tmp_path / "in.tga").read_bytes())
    assert read_photograph(tmp_path / "in.tga").alpha is not None
    content[17] &= 0xF0
    (tmp_path / "in.tga").write_bytes(content)
    found = read_photograph(tmp_path / "in.tga")
    assert found.alpha is None and (found.pixels == 90).all()


def test_sgi_of_16_bits_is_refused_rather_than_cut(tmp_path):
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(tmp_path / "in.sgi", bpc=2)
    with pytest.raises(UserError, match="16 bits per channel"):
        read_photograph(tmp_path / "in.sgi")
    Image.fromarray((RAMP * 255).astype(np.uint8)).save(tmp_path / "in.sgi")
    assert read_photograph(tmp_path / "in.sgi").pixels.dtype == np.uint8


def test_a_colour_map_of_8_bits(tmp_path):
    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colours = np.random.default_rng(0).integers(0, 256, (3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", indices, photometric="palette", colormap=colours)
    found = read_photograph(tmp_path / "in.tif").pixels
    np.testing.assert_array_equal(found, colours.T[indices])


def test_channels_that_are_dropped_are_noted(tmp_path):
    samples = (np.dstack([RAMP, RAMP[..., :1]]) * 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "in.tif", samples, photometric="rgb", extrasamples=["unspecified"])
    found = read_photograph(tmp_path / "in.tif")
    np.testing.assert_array_equal(found.pixels, samples[..., :3])
    assert found.alpha is None and "1 channels of unknown meaning" in found.notes[0]


def test_large_texts_of_png_are_no_damage(tmp_path):
    text = (b"zTXt", b"Long\0\0" + compress(b"a" * 5_000_000))
    content = with_chunks(bytes(imagecodecs.png_encode((RAMP * 255).astype(np.uint8))), [text])
    (tmp_path / "in.png").write_bytes(content)
    assert read_photograph(tmp_path / "in.png").metadata.texts == (text,)


def test_bigtiff_is_read_like_any_other(tmp_path):
    samples = (RAMP * 255).astype(np.uint8)
    tags = [(0x13B, 2, 5, b"name\0", True), (65000, 16, 1, 7, True)]
    tifffile.imwrite(tmp_path / "in.tif", samples, photometric="rgb", bigtiff=True, extratags=tags)
    found = read_photograph(tmp_path / "in.tif")
    np.testing.assert_array_equal(found.pixels, samples)
    fields = tiff_blocks.read(found.metadata.exif)[0]
    assert found.notes == () and fields[0x13B][2] == b"name\0"
    assert fields[65000] == (4, 1, struct.pack("<I", 7))
