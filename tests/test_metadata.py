"""Metadata of a photograph is kept in the output."""

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from hypernet_jax.images import exif, xmp
from hypernet_jax.images.colour import Colour
from hypernet_jax.images.metadata import Metadata, read_tiff_metadata
from hypernet_jax.images.png_chunks import read_chunks, with_chunks
from hypernet_jax.images.reading import Photograph, read_photograph
from hypernet_jax.images.writing import Encoding
from hypernet_jax.photographs.restoring import Options, restore_file

from . import tiff_blocks
from .models import RESTORER
from .tiff_blocks import EXIF

FORMS = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY_PROFILE = Colour(transfer=1.8).profile(grey=True)
P3 = Colour((0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06))


def encoded(form, pixels=PIXELS, **metadata):
    content, notes = Encoding().encode(
        Photograph(pixels, metadata=Metadata(**metadata).of_size(9, 6)), form
    )
    return content, notes


def block_of(form, content):
    """The EXIF block of a file, or the TIFF file itself."""
    if form == "TIFF":
        return content
    return Image.open(io.BytesIO(content)).info["exif"].removeprefix(b"Exif\0\0")


@settings(max_examples=40)
@given(st.sampled_from("<>"), tiff_blocks.directories(), st.sampled_from(FORMS))
def test_exif_fields_of_every_type_come_out_byte_for_byte(order, directories, form):
    if not directories:
        return
    block = tiff_blocks.build(order, directories)
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG", exif=b"Exif\0\0" + block)
    content, notes = encoded(form, exif=exif.without_old_picture(block, turned=False))
    assert notes == []
    found = block_of(form, content)
    if form == "TIFF":
        found = tiff_blocks.read(found)
        for pointer, fields in directories.items():
            assert fields.items() <= found[pointer].items()
    else:
        assert found == block
    # And from a TIFF file, whose fields become a new block.
    tiff, _ = encoded("TIFF", exif=block)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pathlib.Path.open", lambda path, mode: io.BytesIO(tiff))
        carried = read_tiff_metadata(Path("any.tif"), (9, 6))[0]
    again = tiff_blocks.read(carried.exif)
    assert carried.exif[:2] == block[:2]
    for pointer, fields in directories.items():
        assert fields.items() <= again[pointer].items()


def test_only_what_changes_is_changed(tmp_path):
    """A block like that of a camera: orientation, sizes, resolutions, thumbnail."""
    name = "Jörg".encode()
    rationals = [struct.pack(">II", value, 1) for value in (300, 150)]
    directories = {
        0: {
            0x112: (3, 1, struct.pack(">H", 6)),
            0x13B: (2, 6, name + b"\0"),
            0x11A: (5, 1, rationals[0]),
            0x11B: (5, 1, rationals[1]),
        },
        EXIF: {
            0xA002: (3, 1, struct.pack(">H", 9)),
            0xA003: (4, 1, struct.pack(">I", 6)),
            0x927C: (7, 9, b"makernote"),
        },
    }
    block = bytearray(tiff_blocks.build(">", directories))
    thumbnail = b"\xff\xd8 the old picture \xff\xd9"
    # A second directory at the end, linked from the first, followed by the thumbnail.
    (first,) = struct.unpack_from(">I", block, 4)
    (count,) = struct.unpack_from(">H", block, first)
    struct.pack_into(">I", block, first + 2 + 12 * count, len(block))
    picture_at = len(block) + 2 + 24 + 4
    block += struct.pack(">HHHIIHHII", 2, 0x201, 4, 1, picture_at, 0x202, 4, 1, len(thumbnail))
    block += bytes(4) + thumbnail
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", exif=b"Exif\0\0" + bytes(block))
    for ending in ("jpg", "png", "webp", "avif", "tif"):
        output = tmp_path / f"out.{ending}"
        restored = restore_file(RESTORER, tmp_path / "in.jpg", output, Options(9.0))
        assert restored.size == (6, 9)
        content = output.read_bytes()
        assert name in content and b"old picture" not in content
        form = {"jpg": "JPEG", "tif": "TIFF"}.get(ending, ending.upper())
        found = tiff_blocks.read(block_of(form, content))
        assert found[0].get(0x112, (3, 1, b"\0\1"))[2] == b"\0\1"
        assert found[0][0x11A][2] == rationals[1] and found[0][0x11B][2] == rationals[0]
        assert found[EXIF][0xA002] == (3, 1, struct.pack(">H", 6))
        assert found[EXIF][0xA003] == (4, 1, struct.pack(">I", 9))
        assert found[EXIF][0x927C] == directories[EXIF][0x927C]
        assert Image.open(output).getexif().get(0x112, 1) == 1


@settings(max_examples=200)
@given(st.binary(max_size=60), st.sampled_from([b"II*\0", b"MM\0*", b""]), st.booleans())
def test_damaged_blocks_end_in_values_or_a_value_error(rest, head, turned):
    block = head + rest
    try:
        exif.read_directories(io.BytesIO(block))
    except ValueError:
        return
    for changed in (
        exif.without_old_picture(block, turned=turned),
        exif.with_size(block, 70_000, 3),
        exif.without_orientation(block),
    ):
        assert changed[:4] == block[:4] and len(changed) <= len(block)


DESCRIPTION = (
    "<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF "
    "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description rdf:about='' {}"
    "</rdf:RDF></x:xmpmeta>"
)
TIFF_NAMESPACE = "http://ns.adobe.com/tiff/1.0/"


@pytest.mark.parametrize(
    "spelling",
    [
        f"xmlns:tiff='{TIFF_NAMESPACE}' tiff:Orientation='6' dc='é > e'/>",
        f'xmlns:t="{TIFF_NAMESPACE}" t:Orientation = "6"></rdf:Description>',
        f"xmlns:t='{TIFF_NAMESPACE}'><t:Orientation> 6\n</t:Orientation></rdf:Description>",
        f"><o:Orientation xmlns:o='{TIFF_NAMESPACE}'>&#54;</o:Orientation></rdf:Description>",
        'tiff:Orientation="6"/>',
    ],
)
def test_xmp_orientation_in_any_spelling(spelling, tmp_path):
    packet = DESCRIPTION.format(spelling).encode()
    assert xmp.orientation_of(packet) == 6
    left = xmp.without(packet, xmp.ORIENTATION)
    assert xmp.orientation_of(left) is None and xmp.without(left, xmp.SIZES) == left
    assert left.count(b"rdf:Description") == packet.count(b"rdf:Description")
    # XMP alone also turns the picture; EXIF takes precedence.
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", xmp=packet)
    found = read_photograph(tmp_path / "in.jpg")
    assert found.pixels.shape == (9, 6, 3) and found.metadata.xmp == left
    tags = Image.Exif()
    tags[0x112] = 1
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", xmp=packet, exif=tags)
    assert read_photograph(tmp_path / "in.jpg").pixels.shape == (6, 9, 3)


def test_xmp_that_is_no_xml_is_kept_unless_the_picture_was_turned(tmp_path):
    for orientation, kept in ((1, b"<x tiff:Orientation='6'"), (6, None)):
        tags = Image.Exif()
        tags[0x112] = orientation
        Image.fromarray(PIXELS).save(
            tmp_path / "in.jpg", xmp=b"<x tiff:Orientation='6'", exif=tags.tobytes()
        )
        found = read_photograph(tmp_path / "in.jpg")
        assert found.metadata.xmp == kept
        assert ("XMP" in " ".join(found.notes)) == (kept is None)


def test_sizes_and_thumbnails_leave_xmp_when_they_no_longer_hold():
    packet = DESCRIPTION.format(
        "xmlns:exif='http://ns.adobe.com/exif/1.0/' exif:PixelXDimension='9'>"
        "<xmp:Thumbnails xmlns:xmp='http://ns.adobe.com/xap/1.0/'><a/></xmp:Thumbnails>"
        "</rdf:Description>"
    ).encode()
    metadata = Metadata(xmp=packet, size=(9, 6))
    assert metadata.of_size(9, 6).xmp == packet
    assert b"PixelX" not in metadata.of_size(18, 12).xmp
    assert b"<a/>" not in xmp.without(packet, xmp.THUMBNAILS)


PHONES = {
    "pixel": (
        "GCamera:MotionPhoto='1' GCamera:MotionPhotoVersion='1' "
        "GCamera:MotionPhotoPresentationTimestampUs='968644' hdrgm:Version='1.0' "
        "xmpNote:HasExtendedXMP='0D5A' dc:source='pixel'>"
        "<Container:Directory><rdf:Seq><rdf:li rdf:parseType='Resource'>"
        "<Container:Item Item:Mime='video/mp4' Item:Semantic='MotionPhoto' Item:Length='9'/>"
        "</rdf:li></rdf:Seq></Container:Directory></rdf:Description>"
    ),
    "nexus": (
        "GCamera:MicroVideo='1' GCamera:MicroVideoVersion='1' dc:source='nexus' "
        "GCamera:MicroVideoOffset='9' GCamera:MicroVideoPresentationTimestampUs='5'/>"
    ),
    "still": "GCamera:MotionPhoto='0' dc:source='still' hdrgm:Version='1.0'/>",
}
NAMESPACES = {
    "GCamera": "http://ns.google.com/photos/1.0/camera/",
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
    "hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "dc": "http://purl.org/dc/elements/1.1/",
}


@pytest.mark.parametrize("phone", PHONES)
def test_videos_and_gain_maps_of_phones_leave_no_trace_in_xmp(phone, tmp_path):
    declared = " ".join(f"xmlns:{name}='{address}'" for name, address in NAMESPACES.items())
    packet = DESCRIPTION.format(f"{declared} {PHONES[phone]}").encode()
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", xmp=packet)
    with (tmp_path / "in.jpg").open("ab") as file:
        file.write(b"\0\0\0\x18ftypmp42")
    made = restore_file(RESTORER, tmp_path / "in.jpg", tmp_path / "out.jpg", Options(9.0))
    assert ("motion photograph" in " ".join(made.notes)) == (phone != "still")
    left = read_photograph(tmp_path / "out.jpg").metadata.xmp
    assert f"dc:source='{phone}'".encode() in left
    for name in (b"GCamera:", b"Container:", b"Item:", b"hdrgm:", b"xmpNote:"):
        assert name in packet or phone != "pixel"
        assert name not in left


@pytest.mark.parametrize("phone", ["", *PHONES])
def test_videos_that_xmp_does_not_name_are_noted_once(phone, tmp_path):
    declared = " ".join(f"xmlns:{name}='{address}'" for name, address in NAMESPACES.items())
    packet = DESCRIPTION.format(f"{declared} {PHONES[phone]}").encode() if phone else b""
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", **({"xmp": packet} if phone else {}))
    with (tmp_path / "in.jpg").open("ab") as file:
        file.write(b"\0\0\x30\x0a\x10\0\0\0MotionPhoto_Data\0\0\0\x18ftypmp42")
    made = restore_file(RESTORER, tmp_path / "in.jpg", tmp_path / "out.jpg", Options(9.0))
    assert " ".join(made.notes).count("motion photograph") == 1


CHROMATICITIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
COLOURS = {
    "linear": [(b"gAMA", struct.pack(">I", 100000))],
    "wide": [(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", CHROMATICITIES)],
    "srgb": [(b"sRGB", b"\0")],
    "p3": [(b"cICP", bytes([12, 13, 0, 1]))],
    "pq": [(b"cICP", bytes([9, 16, 0, 1]))],
}


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("depth", [8, 16])
def test_colours_told_without_a_profile(name, depth, tmp_path):
    samples = PIXELS if depth == 8 else PIXELS.astype(np.uint16) * 257
    (tmp_path / "in.png").write_bytes(
        with_chunks(bytes(imagecodecs.png_encode(samples)), COLOURS[name])
    )
    restore_file(RESTORER, tmp_path / "in.png", tmp_path / "out.png", Options(9.0))
    assert list(read_chunks(tmp_path / "out.png")) == COLOURS[name]
    restored = restore_file(RESTORER, tmp_path / "in.png", tmp_path / "out.tif", Options(9.0))
    profile = Image.open(tmp_path / "out.tif").info.get("icc_profile")
    notes = " ".join(restored.notes)
    assert ("HDR (PQ)" in notes and "cannot describe its colours" in notes) == (name == "pq")
    assert ("linear in light" in notes) == (name == "linear")
    assert (profile is not None) == (name in ("linear", "wide", "p3"))


def test_a_profile_made_of_colours_means_them():
    """Compares with the adaptation in the sRGB profile of LittleCMS."""
    made = Colour(transfer="sRGB", primaries=(0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.0601))
    assert made.is_srgb and made.profile(grey=False) is None
    profile = ImageCms.ImageCmsProfile(io.BytesIO(P3.profile(grey=False)))
    srgb = ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    rgb = Image.fromarray(np.array([[[255, 0, 0], [234, 51, 35], [128, 128, 128]]], np.uint8))
    shown = np.asarray(ImageCms.profileToProfile(rgb, profile, srgb, renderingIntent=intent))
    # P3 red is outside sRGB; sRGB red is (234, 51, 35) in P3. Greys are unchanged.
    np.testing.assert_array_equal(shown[0, 0], [255, 0, 0])
    np.testing.assert_allclose(shown[0, 1], [255, 0, 0], atol=3)
    np.testing.assert_allclose(shown[0, 2], [128, 128, 128], atol=1)


def test_avif_code_points_become_a_profile(tmp_path):
    content = bytearray(imagecodecs.avif_encode(PIXELS, level=100))
    at = content.index(b"colrnclx") + 8
    content[at : at + 4] = struct.pack(">HH", 12, 13)
    (tmp_path / "in.avif").write_bytes(content)
    found = read_photograph(tmp_path / "in.avif")
    assert found.metadata.colours == ((b"cICP", bytes([12, 13, 0, 1])),)
    out, notes = Encoding().encode(found, "JPEG")
    assert notes == [] and Image.open(io.BytesIO(out)).info["icc_profile"][16:20] == b"RGB "


@pytest.mark.parametrize("form", ["BMP", "JXL"])
def test_colours_become_srgb_where_there_is_no_room_for_a_profile(form, tmp_path):
    if form == "JXL":
        pytest.importorskip("pillow_jxl", reason="the extra `jxl` is not installed")
    p3 = P3.profile(grey=False)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    expected = np.asarray(
        ImageCms.profileToProfile(
            Image.fromarray(PIXELS), ImageCms.ImageCmsProfile(io.BytesIO(p3)), srgb,
            renderingIntent=intent, flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    )  # fmt: skip
    for profile, wanted, said in ((p3, expected, 1), (srgb.tobytes(), PIXELS, 0)):
        content, notes = encoded(form, profile=profile)
        path = tmp_path / f"in.{form.lower()}"
        path.write_bytes(content)
        np.testing.assert_array_equal(read_photograph(path).pixels, wanted)
        assert len(notes) == said and all("converted to sRGB" in note for note in notes)
    assert np.abs(expected.astype(int) - PIXELS).max() > 1
    content, notes = encoded(form, profile=b"no profile")
    assert notes == [f"{form} cannot carry its colour profile"]


@pytest.mark.parametrize("form", [*FORMS, "BMP", "PFM"])
def test_what_a_format_has_no_place_for_is_said(form):
    texts = ((b"tEXt", b"Author\0J\xf6rg"), (b"zTXt", b"Long\0\0" + zlib.compress(b"text")))
    carried = {
        "texts": (texts, "texts", ("PNG",)),
        "comments": ((b"a comment \xff", b"more"), "comments", ("PNG", "JPEG")),
        "iptc": (b"\x1c\x02\x05\0\x03abc", "IPTC data", ("JPEG", "TIFF")),
        "xmp": (b"<x/>", "XMP data", FORMS),
        "exif": (tiff_blocks.build("<", {0: {0x13B: (2, 5, b"name\0")}}), "EXIF data", FORMS),
    }
    for field, (value, called, places) in carried.items():
        content, notes = encoded(form, **{field: value})
        assert bool(notes) == (form not in places), (field, notes)
        if notes:
            assert notes == [f"{form} cannot carry its {called}"]
        elif field == "texts":
            assert all(data in content for _, data in texts)
        elif field == "comments":
            assert all(comment in content for comment in value)
        elif field != "exif":
            assert value in content


def test_comments_and_records_are_read_again(tmp_path):
    for form, ending in (("JPEG", "jpg"), ("TIFF", "tif"), ("PNG", "png")):
        content, _ = encoded(form, comments=("für dich".encode(),), iptc=b"\x1c\x02\x05\0\x03abc")
        (tmp_path / f"in.{ending}").write_bytes(content)
        found = read_photograph(tmp_path / f"in.{ending}").metadata
        if form == "JPEG":
            assert found.comments == ("für dich".encode(),)
            assert found.iptc == b"\x1c\x02\x05\0\x03abc"
        if form == "TIFF":
            assert tiff_blocks.read(found.exif)[0][33723][2] == b"\x1c\x02\x05\0\x03abc"
        if form == "PNG":
            assert found.texts == ((b"iTXt", b"Comment\0\0\0\0\0" + "für dich".encode()),)


def test_what_is_too_large_for_jpeg_is_left_out_and_said():
    large = bytes(70_000)
    block = tiff_blocks.build("<", {EXIF: {0x927C: (7, len(large), large)}})
    content, notes = encoded("JPEG", exif=block, xmp=large, comments=(large,), dpi=(7e4, 7e4))
    assert len(content) < 10_000 and len(notes) == 4
    assert all("too large" in note or "too high" in note for note in notes)
    content, notes = encoded("PNG", exif=block, xmp=large)
    assert notes == [] and block in content


def test_profiles_of_other_kinds_are_left_out_and_said(tmp_path):
    rgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    grey = Image.fromarray(PIXELS[..., 0])
    grey.save(tmp_path / "in.jpg", icc_profile=rgb)
    found = read_photograph(tmp_path / "in.jpg")
    assert found.metadata.profile is None and "is for RGB pictures" in found.notes[0]
    grey.save(tmp_path / "in.jpg", icc_profile=GREY_PROFILE)
    found = read_photograph(tmp_path / "in.jpg")
    assert found.metadata.profile == GREY_PROFILE and found.notes == ()
    for form in FORMS:
        content, notes = Encoding().encode(found, form)
        out = Image.open(io.BytesIO(content))
        kept = out.info.get("icc_profile")
        assert (kept == GREY_PROFILE) == (out.mode == "L") and bool(notes) == (kept is None), form
    # Greys of a palette count as colours if the profile is for RGB.
    grey.quantize(9).save(tmp_path / "in.png", icc_profile=rgb)
    found = read_photograph(tmp_path / "in.png")
    assert found.pixels.shape[-1] == 3 and found.metadata.profile == rgb


def test_raw_profiles_of_imagemagick_are_taken_as_what_they_are(tmp_path):
    block = tiff_blocks.build("<", {0: {0x112: (3, 1, b"\6\0"), 0x13B: (2, 5, b"name\0")}})
    digits = (b"Exif\0\0" + block).hex().encode()
    text = b"\nexif\n%8d\n" % (len(block) + 6) + digits
    chunk = (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    (tmp_path / "in.png").write_bytes(with_chunks(bytes(imagecodecs.png_encode(PIXELS)), [chunk]))
    found = read_photograph(tmp_path / "in.png")
    assert found.pixels.shape == (9, 6, 3) and found.metadata.texts == ()
    assert tiff_blocks.read(found.metadata.exif)[0][0x13B][2] == b"name\0"


def test_colours_of_bmp_and_jpeg_2000_that_are_not_read_are_noted(tmp_path):
    for kind, noted in ((0x73524742, False), (0, True), (0x4D424544, True)):
        head = struct.pack("<IiiHHIIiiII", 124, 9, 6, 1, 24, 0, 168, 0, 0, 0, 0)
        head += struct.pack("<4II", 0, 0, 0, 0, kind)
        file = struct.pack("<IHHI", 14 + 124 + 168, 0, 0, 14 + 124)
        content = b"BM" + file + head.ljust(124, b"\0") + bytes(168)
        (tmp_path / "in.bmp").write_bytes(content)
        found = read_photograph(tmp_path / "in.bmp")
        assert found.pixels.shape == (6, 9, 3) and bool(found.notes) == noted
    content = imagecodecs.jpeg2k_encode(PIXELS, level=0, reversible=True, codecformat="jp2")
    (tmp_path / "in.jp2").write_bytes(content)
    assert read_photograph(tmp_path / "in.jp2").notes == ()


OF_INGREDIENT = (
    f"xmlns:t='{TIFF_NAMESPACE}' xmlns:m='m'><m:Ing><rdf:Bag><rdf:li rdf:parseType='Resource'>"
    "<t:Orientation>6</t:Orientation></rdf:li></rdf:Bag></m:Ing></rdf:Description>"
)


def test_xmp_orientation_of_another_picture_is_not_this_ones():
    packet = DESCRIPTION.format(OF_INGREDIENT).encode()
    assert xmp.orientation_of(packet) is None
    assert xmp.without(packet, xmp.ORIENTATION) == packet


@pytest.mark.parametrize("value", ["<rdf:value>6</rdf:value>", "06", "6.0"])
def test_xmp_orientation_as_a_value_of_other_forms(value):
    packet = DESCRIPTION.format(
        f"xmlns:t='{TIFF_NAMESPACE}'><t:Orientation>{value}</t:Orientation></rdf:Description>"
    ).encode()
    assert xmp.orientation_of(packet) == 6
    assert b"Orientation" not in xmp.without(packet, xmp.ORIENTATION)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-8-sig", "latin-1"])
def test_xmp_in_other_encodings(encoding):
    text = DESCRIPTION.format(f"xmlns:t='{TIFF_NAMESPACE}' t:Orientation='6' t:a='é'/>")
    packet = text.encode(encoding)
    assert xmp.orientation_of(packet) == 6
    assert xmp.orientation_of(xmp.without(packet, xmp.ORIENTATION)) is None


def test_an_orientation_that_is_not_understood_is_kept():
    packet = DESCRIPTION.format(f"xmlns:t='{TIFF_NAMESPACE}' t:Orientation='upright'/>").encode()
    assert xmp.orientation_of(packet) is None
    assert xmp.without(packet, xmp.ORIENTATION) == packet


def test_values_that_lie_in_the_header_break_nothing(tmp_path):
    """Two resolutions to swap, one of which claims to lie at the start of the block."""
    block = bytearray(tiff_blocks.build("<", {0: {0x112: (3, 1, b"\6\0")}}))
    (start,) = struct.unpack_from("<I", block, 4)
    entries = bytes(block[start + 2 : start + 14])
    entries += struct.pack("<HHII", 0x11A, 5, 1, 0) + struct.pack("<HHII", 0x11B, 5, 1, 8)
    block = block[:start] + struct.pack("<H", 3) + entries + bytes(4)
    Image.fromarray(PIXELS).save(tmp_path / "in.jpg", exif=b"Exif\0\0" + bytes(block))
    for ending in ("jpg", "tif", "avif"):
        output = tmp_path / f"out.{ending}"
        assert restore_file(RESTORER, tmp_path / "in.jpg", output, Options(9.0)).size == (6, 9)


@pytest.mark.parametrize("gamma", [1, 2, 3, 4999, 2**31])
def test_impossible_gammas_are_said_not_used(gamma):
    metadata = {"colours": ((b"gAMA", struct.pack(">I", gamma)),)}
    _, notes = encoded("JPEG", **metadata)
    assert notes == ["JPEG cannot describe its colours (gAMA) like the input"]
