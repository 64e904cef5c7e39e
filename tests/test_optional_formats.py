"""Formats that need an extra: bit depth, orientation and metadata are kept."""

import sys

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from hypernet_jax import UserError, get_task
from hypernet_jax.blind.noise_profile import noise_of_file
from hypernet_jax.images import optional
from hypernet_jax.images.chroma import interpolated_chroma
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.metadata import Metadata
from hypernet_jax.images.reading import Photograph, read_photograph
from hypernet_jax.images.writing import Encoding

from .raw_files import dng

pillow_heif = pytest.importorskip("pillow_heif", reason="the extra `heif` is not installed")
pytest.importorskip("pillow_jxl", reason="the extra `jxl` is not installed")
pytest.importorskip("rawpy", reason="the extra `raw` is not installed")


def turned_exif():
    exif = Image.Exif()
    exif[274], exif[271] = 6, "Maker"
    return exif.tobytes()


def test_heif_of_8_bits_is_upright_once(photograph, tmp_path):
    path = tmp_path / "a.heic"
    pillow_heif.register_heif_opener()
    Image.fromarray(photograph[:40, :60]).save(path, quality=95, exif=turned_exif())
    found = read_photograph(path)
    assert found.pixels.shape == (60, 40, 3) and found.pixels.dtype == np.uint8
    expected = np.rot90(photograph[:40, :60], -1).astype(int)
    assert np.abs(found.pixels - expected).mean() < 4
    again = Image.Exif()
    again.load(b"Exif\0\0" + found.metadata.exif)
    assert again[271] == "Maker" and again.get(274, 1) == 1


@pytest.mark.parametrize("bits", [10, 12])
def test_heif_keeps_its_depth(bits, tmp_path):
    ramp = np.linspace(0, 65535, 128)[None, :, None] * np.ones((64, 1, 3))
    held = pillow_heif.from_bytes(
        mode="RGB;16", size=(128, 64), data=ramp.astype(np.uint16).tobytes()
    )
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    try:
        held.save(tmp_path / "a.heif", quality=-1)
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    found = read_photograph(tmp_path / "a.heif")
    assert found.pixels.dtype == np.uint16 and found.pixels.shape == (64, 128, 3)
    assert np.abs(found.pixels.astype(int) - ramp).max() < 3 * 65535 / 2**bits
    assert found.pixels.max() == 65535  # white is white


@pytest.mark.parametrize("size", [(40, 60), (41, 63), (300, 90)])
@pytest.mark.parametrize("unit", [1, 257])
def test_halved_colours_are_interpolated(size, unit, photograph):
    """Compares with Pillow's upsampling of chrominance in JPEG files."""
    noise = np.random.default_rng(0).normal(0, 8, photograph.shape)
    noisy = np.clip(photograph + noise, 0, 255).astype(np.uint8)[100:, 200:]
    picture = Image.fromarray(noisy[: size[0], : size[1]]).convert("YCbCr")
    luma, *colours = picture.split()
    half = -(-size[1] // 2), -(-size[0] // 2)
    halves = [each.resize(half, Image.Resampling.BOX) for each in colours]

    def enlarged(how):
        doubled = [each.resize((2 * each.width, 2 * each.height), how) for each in halves]
        cut = [each.crop((0, 0, size[1], size[0])) for each in doubled]
        return np.asarray(Image.merge("YCbCr", [luma, *cut]).convert("RGB")).astype(int)

    repeated, smooth = enlarged(Image.Resampling.NEAREST), enlarged(Image.Resampling.BILINEAR)
    found = interpolated_chroma((repeated * unit).astype(np.uint8 if unit == 1 else np.uint16))
    before, after = (np.abs(each - smooth).mean() for each in (repeated, found / unit))
    assert after < 0.4 * before and after < 0.7
    # A picture with full chrominance is unchanged.
    own = (noisy[: size[0], : size[1]] * np.uint16(unit)).astype(found.dtype)
    np.testing.assert_array_equal(interpolated_chroma(own), own)
    grey = own[..., :1]
    assert interpolated_chroma(grey) is grey


@pytest.fixture
def noises(photograph, tmp_path):
    """The noise found in a HEIC and in a JPEG file of the same noisy photograph."""
    pillow_heif.register_heif_opener()
    noise = np.random.default_rng(0).normal(0, 10, photograph.shape)
    noisy = np.clip(np.round(photograph + noise), 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(tmp_path / "a.heic", quality=90)
    Image.fromarray(noisy).save(tmp_path / "a.jpg", quality=90)
    task = get_task("photo")
    return [
        task.estimate(np.float32(read_photograph(tmp_path / name).pixels), None).parts["noise"]
        for name in ("a.heic", "a.jpg")
    ]


def test_noise_of_heif_files_is_found(noises):
    """HEIC smooths noise; and halved colours are not taken for more of it."""
    assert 0.5 * noises[1] < noises[0] < 1.2 * noises[1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_xl_keeps_its_depth(dtype, channels, tmp_path):
    rng = np.random.default_rng(channels)
    white = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
    samples = (rng.random((30, 44, channels)) * white).astype(dtype)
    squeezed = samples[..., 0] if channels == 1 else samples
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(squeezed, lossless=True))
    found = read_photograph(tmp_path / "a.jxl")
    colours = channels - (channels in (2, 4))
    np.testing.assert_array_equal(found.pixels, samples[..., :colours])
    if channels in (2, 4):
        np.testing.assert_array_equal(found.alpha, samples[..., colours:])
    assert found.pixels.dtype == dtype


def test_jpeg_xl_out_and_in_again(photograph, tmp_path):
    source = tmp_path / "a.jpg"
    Image.fromarray(photograph[:40, :60]).save(source, quality=95, exif=turned_exif())
    held = read_photograph(source)
    content, notes = Encoding().encode(held, "JXL")
    assert not notes
    (tmp_path / "a.jxl").write_bytes(content)
    found = read_photograph(tmp_path / "a.jxl")
    np.testing.assert_array_equal(found.pixels, held.pixels)
    again = Image.Exif()
    again.load(b"Exif\0\0" + found.metadata.exif)
    assert again[271] == "Maker" and again.get(274, 1) == 1
    small, _ = Encoding(50).encode(held, "JXL")
    assert len(small) < len(content) / 2
    deep = Photograph((held.pixels * np.uint16(257)).astype(np.uint16))
    assert "JXL has 8 bits" in Encoding().encode(deep, "JXL")[1][0]


def test_jpeg_xl_made_of_a_turned_jpeg_is_upright_once(photograph, tmp_path):
    """Whether the orientation is in the EXIF or the XMP data; both are left out."""
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="Maker"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    source, path = tmp_path / "a.jpg", tmp_path / "a.jxl"
    Image.fromarray(photograph[:40, :60]).save(source, exif=turned_exif(), xmp=packet)
    with Image.open(source) as picture:
        picture.save(path, lossless_jpeg=True)
    upright, found = read_photograph(source), read_photograph(path)
    assert found.pixels.shape == upright.pixels.shape == (60, 40, 3)
    assert found.metadata.size == (40, 60)
    assert b"Orientation" not in (found.metadata.xmp or b"")


def test_xmp_of_jpeg_xl_comes_back(photograph, tmp_path):
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="here"/></rdf:RDF></x:xmpmeta>'
    )
    held = Photograph(photograph[:20, :30], metadata=Metadata(xmp=packet, size=(30, 20)))
    content, notes = Encoding().encode(held, "JXL")
    (tmp_path / "a.jxl").write_bytes(content)
    assert not notes
    assert b'source="here"' in read_photograph(tmp_path / "a.jxl").metadata.xmp


def test_an_animation_of_jpeg_xl_is_refused(tmp_path):
    frames = np.zeros((2, 8, 16, 3), np.uint8)
    (tmp_path / "a.jxl").write_bytes(imagecodecs.jpegxl_encode(frames, lossless=True))
    with pytest.raises(UserError, match="2 frames"):
        read_photograph(tmp_path / "a.jxl")


def test_a_raw_file_is_developed(photograph, tmp_path):
    small = photograph[:200, :300]
    dng(tmp_path / "a.dng", small)
    found = read_photograph(tmp_path / "a.dng")
    assert found.pixels.dtype == np.uint16 and found.pixels.shape == (200, 300, 3)
    exif = Image.Exif()
    exif.load(b"Exif\0\0" + found.metadata.exif)
    assert dict(exif) == {271: "Maker", 315: "Somebody"} and not found.notes
    difference = found.pixels[4:-4, 4:-4] / 257.0 - small[4:-4, 4:-4]
    assert np.abs(difference).mean() < 6 and abs(difference.mean()) < 3
    with pytest.raises(UserError, match="megapixels"):
        read_photograph(tmp_path / "a.dng", limit=0.01)
    (tmp_path / "b.cr2").write_bytes(b"no raw file")
    with pytest.raises(UserError, match="cannot be developed"):
        read_photograph(tmp_path / "b.cr2")


@pytest.mark.parametrize("profile", [(1e-4, 1e-6), (1e-3, 1e-5), (3e-3, 1e-4)])
@pytest.mark.parametrize("neutral", [(1, 1, 1), (0.5, 1, 0.6)])
def test_the_noise_of_a_raw_file_is_what_its_profile_says(profile, neutral, tmp_path):
    grey = np.full((200, 300, 3), 127.5)
    dng(tmp_path / "a.dng", grey, profile=profile, neutral=neutral)
    found = read_photograph(tmp_path / "a.dng").pixels[8:-8, 8:-8] / 257.0
    measured = np.sqrt(found.reshape(-1, 3).var(axis=0).mean())
    assert noise_of_file(tmp_path / "a.dng") == pytest.approx(measured, rel=0.1)
    for task, parts in (("denoise", {"noise"}), ("photo", {"noise", "jpeg", "blur"})):
        estimate = get_task(task).estimate(np.float32(found), tmp_path / "a.dng")
        assert set(estimate.parts) == parts and "profile" in estimate.how["noise"]
        assert estimate.parts["noise"] == noise_of_file(tmp_path / "a.dng")


def test_files_without_a_noise_profile_say_nothing(photograph, tmp_path, capfd):
    dng(tmp_path / "a.dng", photograph[:40, :60])
    assert noise_of_file(tmp_path / "a.dng") is None
    damaged = (tmp_path / "a.dng").read_bytes()[:300]
    (tmp_path / "b.dng").write_bytes(damaged)
    assert noise_of_file(tmp_path / "b.dng") is None
    dng(tmp_path / "c.dng", photograph[:40, :60], profile=(float("nan"), 0.0))
    assert noise_of_file(tmp_path / "c.dng") is None
    dng(tmp_path / "d.dng", photograph[:40, :60], profile=(1e308, 1e308))
    assert noise_of_file(tmp_path / "d.dng") is None
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_missing_extra_is_named(photograph, tmp_path, monkeypatch):
    pillow_heif.register_heif_opener()
    picture = Image.fromarray(photograph[:40, :60])
    picture.save(tmp_path / "a.heic")
    (tmp_path / "b.jxl").write_bytes(imagecodecs.jpegxl_encode(photograph[:8, :8]))
    dng(tmp_path / "c.nef", photograph[:40, :60])
    names = {path.name for path in find_images(tmp_path)}
    assert names == {"a.heic", "b.jxl", "c.nef"}
    for name, package, extra in (
        ("a.heic", "pillow_heif", "heif"), ("b.jxl", "pillow_jxl", "jxl"), ("c.nef", "rawpy", "raw")
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, package, None)
        optional._register_heif.cache_clear()  # as when the first file is opened
        with pytest.raises(UserError, match=rf"needs {package}: install hypernet-jax\[{extra}\]"):
            read_photograph(tmp_path / name)
    with pytest.raises(UserError, match=r"Writing JPEG XL needs"):
        Encoding().check("JXL")
