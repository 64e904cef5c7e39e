"""Restoring photograph files of every kind: what is kept, noted and refused."""

import base64
import dataclasses
import io
import warnings

import imagecodecs
import jax
import numpy as np
import pytest
import tifffile
from damaged_files import damaged, intact_files, try_file
from PIL import Image, ImageCms, ImageOps
from PIL.ExifTags import IFD, Base

from hypernet_jax import Restorer, UserError, get_task, save_weights
from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.cli.main import main
from hypernet_jax.cli.restore import _described
from hypernet_jax.images.reading import read_photograph
from hypernet_jax.images.writing import Encoding
from hypernet_jax.photographs.batch import Job
from hypernet_jax.photographs.restoring import Options, Restored, restore_file

from .models import RESTORER, tiny_config, tiny_restorer, tiny_theta

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" dc:title="cup"/></x:xmpmeta>'
IDENTITY = Options(0.0, blend=0.0)


@pytest.fixture
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(file, tiny_theta(tiny_config()), tiny_config())
    return str(file)


def exif(orientation=6):
    tags = Image.Exif()
    tags[Base.Orientation], tags[Base.Make] = orientation, "A camera"
    tags[Base.Copyright] = "Somebody"
    tags.get_ifd(IFD.Exif)[Base.ExposureTime] = 0.01
    tags.get_ifd(IFD.Exif)[Base.ExifImageWidth] = 999
    tags.get_ifd(IFD.GPSInfo)[1] = "N"
    return tags


def deep(photograph, channels, size=(14, 21)):
    """16-bit samples with significant low bytes."""
    rgb = photograph[100 : 100 + size[0], 100 : 100 + size[1]].astype(np.uint16) * 257
    rgb += np.arange(rgb.size, dtype=np.uint16).reshape(rgb.shape) % 100
    rgba = np.concatenate([rgb, rgb[..., :1]], axis=-1)
    return {1: rgba[..., :1], 2: rgba[..., 2:], 3: rgb, 4: rgba}[channels]


def write_deep(path, samples, **tags):
    plain = samples[..., 0] if samples.shape[-1] == 1 else samples
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(plain)))
        return
    if path.suffix == ".jp2":
        path.write_bytes(imagecodecs.jpeg2k_encode(plain, level=0, reversible=True))
        return
    tifffile.imwrite(
        path,
        plain,
        photometric="rgb" if samples.shape[-1] > 2 else "minisblack",
        extrasamples=["unassalpha"] if samples.shape[-1] in (2, 4) else None,
        **tags,
    )


def read_deep(path):
    samples = (
        imagecodecs.png_decode(path.read_bytes())
        if path.suffix == ".png"
        else tifffile.imread(path)
    )
    return samples[..., None] if samples.ndim == 2 else samples


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("form", ["png", "tif"])
def test_16_bits_in_are_16_bits_out(channels, form, photograph, tmp_path):
    samples = deep(photograph, channels)
    source, output = tmp_path / f"in.{form}", tmp_path / f"out.{form}"
    write_deep(source, samples)
    # At blend 0 the file comes back unchanged, bit for bit.
    restore_file(RESTORER, source, output, IDENTITY)
    np.testing.assert_array_equal(read_deep(output), samples)
    colours = channels if channels in (1, 3) else channels - 1
    restore_file(RESTORER, source, tmp_path / f"restored.{form}", level=30)
    expected = RESTORER.restore(samples[..., :colours], level=30)
    got = read_deep(tmp_path / f"restored.{form}")
    assert np.abs(got[..., :colours].astype(int) - expected).max() <= 1
    assert len(np.unique(got % 257)) > 50
    np.testing.assert_array_equal(got[..., colours:], samples[..., colours:])


@pytest.mark.parametrize("kind", ["planes.tif", "tiles.tif", "code.jp2"])
def test_16_bits_of_other_kinds_are_read_to_the_last(kind, photograph, tmp_path):
    samples = deep(photograph, 3)
    if kind == "planes.tif":
        tifffile.imwrite(
            tmp_path / kind, np.moveaxis(samples, -1, 0), photometric="rgb", planarconfig="separate"
        )
    else:
        write_deep(tmp_path / kind, samples, **{"tile": (16, 16)} if "tiles" in kind else {})
    np.testing.assert_array_equal(read_photograph(tmp_path / kind).pixels, samples)


def test_16_bits_are_rounded_where_a_format_has_8_and_that_is_reported(photograph, tmp_path):
    samples = deep(photograph, 3)
    write_deep(tmp_path / "in.tif", samples)
    restored = restore_file(RESTORER, tmp_path / "in.tif", tmp_path / "out.bmp", IDENTITY)
    assert "16 were rounded" in restored.notes[0]
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "out.bmp")), np.round(samples / 257)
    )


@pytest.mark.parametrize("source", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("target", ["jpg", "png", "webp", "tif", "avif"])
def test_profile_exif_and_xmp_go_from_any_format_to_any(source, target, photograph, tmp_path):
    picture = Image.fromarray(photograph[:14, :21])
    options = {"icc_profile": PROFILE, "exif": exif().tobytes(), "dpi": (300, 300)}
    # Pillow writes no XMP into PNG and TIFF files.
    if source not in ("png", "tif"):
        options["xmp"] = XMP
    picture.save(tmp_path / f"in.{source}", **options)
    output = tmp_path / f"out.{target}"
    restored = restore_file(RESTORER, tmp_path / f"in.{source}", output, level=20)
    assert restored.notes == () and restored.size == (14, 21)
    out = Image.open(output)
    out.load()
    assert out.size == (14, 21) and out.info["icc_profile"] == PROFILE
    found = out.getexif()
    assert found.get(Base.Orientation, 1) == 1
    assert found[Base.Make] == "A camera" and found[Base.Copyright] == "Somebody"
    assert found.get_ifd(IFD.Exif)[Base.ExposureTime] == pytest.approx(0.01)
    assert found.get_ifd(IFD.Exif)[Base.ExifImageWidth] == 14
    assert found.get_ifd(IFD.GPSInfo)[1] == "N"
    if source not in ("png", "tif"):
        xmp = out.info.get("xmp") or out.info["XML:com.adobe.xmp"]
        xmp = xmp if isinstance(xmp, bytes) else xmp.encode()
        assert b'dc:title="cup"' in xmp and b"Orientation" not in xmp


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("form", ["png", "tif"])
def test_16_bit_files_carry_as_much(form, channels, photograph, tmp_path):
    samples = deep(photograph, channels)
    Image.fromarray(photograph[:14, :21]).save(
        tmp_path / "tags.jpg", icc_profile=PROFILE, exif=exif().tobytes(), xmp=XMP, dpi=(300, 300)
    )
    donor = read_photograph(tmp_path / "tags.jpg")
    from hypernet_jax.images.reading import Photograph

    colours = samples[..., : 3 if channels > 2 else 1]
    alpha = None if channels in (1, 3) else samples[..., -1:]
    content, _ = Encoding().encode(
        Photograph(colours, alpha, donor.metadata), {"png": "PNG", "tif": "TIFF"}[form]
    )
    (tmp_path / f"in.{form}").write_bytes(content)
    restore_file(RESTORER, tmp_path / f"in.{form}", tmp_path / f"out.{form}", IDENTITY)
    np.testing.assert_array_equal(read_deep(tmp_path / f"out.{form}"), samples)
    # Pillow cannot open grey 16-bit TIFF files with transparency.
    kept = read_photograph(tmp_path / f"out.{form}").metadata
    # An RGB profile does not fit grey pictures.
    assert kept.profile == (PROFILE if channels > 2 else None)
    assert kept.dpi == pytest.approx((300, 300), abs=0.1)
    found = Image.Exif()
    found.load(kept.exif)
    assert found[Base.Make] == "A camera"
    assert found.get_ifd(IFD.Exif)[Base.ExposureTime] == pytest.approx(0.01)
    assert found.get_ifd(IFD.GPSInfo)[1] == "N"
    assert b'dc:title="cup"' in kept.xmp


def test_every_tag_that_describes_a_photograph_reaches_a_tiff_file(photograph, tmp_path):
    tags = exif(1)
    tags[Base.Rating], tags[Base.HostComputer] = 4, "A computer"
    tags[Base.Software], tags[Base.DateTime] = "A program", "no date at all"
    tags[Base.XPComment] = "Grüße".encode("utf-16-le")
    Image.fromarray(photograph[:14, :21]).save(tmp_path / "in.jpg", exif=tags.tobytes())
    restore_file(RESTORER, tmp_path / "in.jpg", tmp_path / "out.tif", level=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Image.open(tmp_path / "out.tif").getexif()
    for tag in (Base.Rating, Base.HostComputer, Base.Software, Base.DateTime, Base.Make):
        assert found[tag] == tags[tag], tag
    assert bytes(found[Base.XPComment]) == tags[Base.XPComment]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_8_and_16_bits(orientation, photograph, tmp_path):
    tags = exif(orientation)
    picture = Image.fromarray(photograph[:14, :21])
    picture.save(tmp_path / "in.jpg", exif=tags, quality=95)
    from PIL import ImageOps

    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "in.jpg")))
    np.testing.assert_array_equal(read_photograph(tmp_path / "in.jpg").pixels, expected)
    samples = deep(photograph, 3)
    write_deep(tmp_path / "in.tif", samples, extratags=[(274, "H", 1, orientation, True)])
    shallow = Image.fromarray((samples >> 8).astype(np.uint8))
    shallow.save(tmp_path / "shallow.png", exif=tags.tobytes())
    upright = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "shallow.png")))
    np.testing.assert_array_equal(read_photograph(tmp_path / "in.tif").pixels >> 8, upright)


def test_kinds_of_colour(photograph, tmp_path):
    crop = Image.fromarray(photograph[:14, :21])
    crop.convert("L").quantize(9).save(tmp_path / "grey-palette.png")
    assert read_photograph(tmp_path / "grey-palette.png").pixels.shape == (14, 21, 1)
    crop.quantize(9).save(tmp_path / "palette.gif")
    assert read_photograph(tmp_path / "palette.gif").pixels.shape == (14, 21, 3)
    crop.convert("CMYK").save(tmp_path / "cmyk.tif")
    cmyk = read_photograph(tmp_path / "cmyk.tif")
    assert "plain formula" in cmyk.notes[0]
    assert np.abs(cmyk.pixels.astype(int) - photograph[:14, :21]).max() <= 1
    lab = ImageCms.profileToProfile(
        crop, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(tmp_path / "lab.tif")
    found = read_photograph(tmp_path / "lab.tif")
    assert found.metadata.profile is not None and "converted to sRGB" in found.notes[0]
    assert np.abs(found.pixels.astype(int) - photograph[:14, :21]).mean() < 6
    ten = photograph[:14, :21].astype(np.uint16) << 2
    (tmp_path / "ten.avif").write_bytes(imagecodecs.avif_encode(ten, level=100, bitspersample=10))
    pixels = read_photograph(tmp_path / "ten.avif").pixels
    assert pixels.dtype == np.uint16
    assert np.abs(pixels / 65535 - photograph[:14, :21] / 255).mean() < 0.02


# 64x32 pixels of 10 bits, red in the upper left quarter, with the property irot of 270 degrees.
TURNED_AVIF = (
    "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAAD1bWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAA"
    "AAAAAAAAAAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAEdAAAAMgAAAChpaW5mAAAAAAABAAAA"
    "GmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAAB0aXBycAAAAFRpcGNvAAAAFGlzcGUAAAAAAAAAQAAAACAAAAAQcGl4aQAA"
    "AAADCgoKAAAADGF2MUOBIEAAAAAAE2NvbHJuY2x4AAIAAgAAgAAAAAlpcm90AwAAABhpcG1hAAAAAAAAAAEAAQUBAoME"
    "hQAAADptZGF0EgAKCTgVP/84EBAEgDIjEAAAUGeeNl6CukypasDB52X/A8kRYrBiGWpOR4ZLMNayRJ4="
)


def test_deep_pictures_that_were_turned_come_out_upright(tmp_path):
    file = tmp_path / "turned.avif"
    file.write_bytes(base64.b64decode(TURNED_AVIF))
    found = read_photograph(file)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
    assert found.pixels.dtype == np.uint16 and found.pixels.shape == upright.shape == (64, 32, 3)
    assert np.abs(found.pixels / 65535 - upright / 255).mean() < 0.02
    assert found.metadata.exif is None and found.metadata.size == (32, 64)


def test_channels_of_no_known_meaning_are_refused(photograph, tmp_path):
    deep = np.dstack([photograph[:9, :9], photograph[:9, :9, :1]]).astype(np.uint16) * 257
    for kind in ("unspecified", "unassalpha"):
        tifffile.imwrite(tmp_path / f"{kind}.tif", deep, photometric="rgb", extrasamples=[kind])
    np.testing.assert_array_equal(read_photograph(tmp_path / "unassalpha.tif").alpha, deep[..., 3:])
    with pytest.raises(UserError, match="convert it to a 16-bit PNG or TIFF"):
        read_photograph(tmp_path / "unspecified.tif")


def test_what_would_be_lost_or_guessed_is_refused(photograph, tmp_path):
    def refused(name, **options):
        with pytest.raises(UserError) as error:
            restore_file(RESTORER, tmp_path / name, tmp_path / "out.png", level=20, **options)
        assert not (tmp_path / "out.png").exists()
        return str(error.value)

    frames = [Image.fromarray(photograph[:9, :9]), Image.fromarray(photograph[9:18, :9])]
    for name in ("in.gif", "in.png", "in.webp", "in.tif", "in.avif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert "2 frames or pages" in refused(name)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as pages:
        for _ in range(2):
            # A kind that Pillow does not support.
            pages.write(deep(photograph, 2), photometric="minisblack", extrasamples=["unassalpha"])
    assert "2 frames or pages" in refused("pages.tif")
    tifffile.imwrite(
        tmp_path / "float.tif", photograph[:9, :9].astype(np.float32), photometric="rgb"
    )
    assert "floating-point samples from" in refused("float.tif")
    holed = np.full((9, 9, 3), 0.5, np.float32)
    holed[2, 3] = np.nan
    tifffile.imwrite(tmp_path / "nan.tif", holed, photometric="rgb")
    assert "not finite numbers" in refused("nan.tif")
    Image.fromarray(photograph).save(tmp_path / "large.png")
    assert "more than 0.1 megapixels" in refused("large.png", limit=0.1)
    Image.new("1", (30000, 20000)).save(tmp_path / "bomb.png")
    assert "more than 400 megapixels" in refused("bomb.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "same.png")
    with pytest.raises(UserError, match="is the input itself"):
        restore_file(
            RESTORER, tmp_path / "same.png", tmp_path / "same.png", level=20, overwrite=True
        )
    with pytest.raises(UserError, match="takes no quality"):
        Encoding(50).check("PNG")
    with pytest.raises(UserError, match="1 to 100"):
        Encoding(0)


def make_folder(folder, photograph):
    """35 photographs of 20 sizes in 8 formats, and 5 broken files; returns the expected results."""
    rng = np.random.default_rng(0)
    sizes = [tuple(size) for size in rng.integers(20, 90, (20, 2))]
    kinds = [
        ("png", "RGB"), ("jpg", "RGB"), ("webp", "RGBA"), ("tif", "L"), ("bmp", "RGB"),
        ("avif", "RGB"), ("gif", "P"), ("ppm", "RGB"), ("png", "LA"), ("jpg", "CMYK"),
        ("png", "16"), ("tif", "16"),
    ]  # fmt: skip
    expected = {}
    for index in range(35):
        (height, width), (suffix, mode) = sizes[index % 20], kinds[index % len(kinds)]
        path = folder / ("deep" if index % 3 else ".") / "er" / f"{index:02}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop = photograph[index : index + height, index : index + width]
        carries = suffix in ("jpg", "png", "webp", "avif") and mode != "16"
        if mode == "16":
            write_deep(path, crop.astype(np.uint16) * 257 + 3)
        else:
            options = {"icc_profile": PROFILE, "exif": exif(1).tobytes()} if carries else {}
            if mode == "CMYK":
                options = {}
            picture = Image.fromarray(crop).convert(mode)
            if "A" in mode:
                picture.putalpha(Image.fromarray(crop[..., 1]))
            picture.save(path, **options)
        out = {"CMYK": "RGB", "P": "RGB", "16": "16"}.get(mode, mode)
        # The profile is for RGB.
        keeps = carries and mode not in ("CMYK", "L", "LA")
        expected[path.relative_to(folder).with_suffix(".png")] = (out, (width, height), keeps)

    def largest(pattern):
        return max(folder.rglob(pattern), key=lambda path: path.stat().st_size)

    broken = {
        "text.png": b"not an image",
        "empty.jpg": b"",
        "cut.jpg": largest("*.jpg").read_bytes()[:700],
        "cut.tif": largest("*.tif").read_bytes()[:300],
        "zeros.webp": bytes(1000),
    }
    for name, content in broken.items():
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("left alone")
    (folder / ".hidden.png").write_text("left alone")
    return expected, broken


def test_a_folder_of_all_kinds(weights, photograph, tmp_path, capsys):
    folder, output = tmp_path / "in", tmp_path / "in" / "restored"
    folder.mkdir()
    expected, broken = make_folder(folder, photograph)
    command = ["restore", str(folder), "--weights", weights, "--level", "15", "-o", str(output)]
    assert main(command) == 1
    out, err = capsys.readouterr()
    assert "40 files: 35 restored, 5 failed" in out
    for name in broken:
        assert f"{folder / name}" in err.partition("not restored:")[2]
    assert "Traceback" not in err
    found = {path.relative_to(output) for path in output.rglob("*") if path.is_file()}
    assert found == set(expected)
    for name, (mode, size, keeps) in expected.items():
        out = Image.open(output / name)
        out.load()
        assert out.size == size, name
        if mode == "16":
            assert read_deep(output / name).dtype == np.uint16, name
        else:
            assert out.mode == mode, name
        if keeps:
            assert out.info["icc_profile"] == PROFILE, name
            assert out.getexif()[Base.Make] == "A camera", name

    one = output / next(iter(expected))
    before = one.stat().st_mtime_ns
    next(path for path in output.rglob("*.png") if path != one).unlink()
    assert main([*command, "--skip-existing", "--jobs", "1"]) == 1
    assert "40 files: 1 restored, 34 skipped, 5 failed" in capsys.readouterr().out
    assert one.stat().st_mtime_ns == before
    assert main(command) == 1
    assert "already exists" in capsys.readouterr().err
    for name in broken:
        (folder / name).unlink()
    assert main([*command, "--overwrite", "--format", "same"]) == 0


def test_names_that_clash_are_kept_apart(weights, photograph, tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        Image.fromarray(photograph[:9, :9]).save(tmp_path / name)
    output = tmp_path / "out"
    main(["restore", str(tmp_path), "--weights", weights, "--level", "9", "-o", str(output)])
    assert {p.name for p in output.iterdir()} == {"a.png.png", "a.jpg.png", "b.png"}


def test_comparisons_get_names_of_their_own(weights, photograph, tmp_path, capsys):
    for name in ("a.png", "a.jpg"):
        Image.fromarray(photograph[:9, :9]).save(tmp_path / name)
    base = ["restore", str(tmp_path), "--weights", weights, "--level", "9", "--compare"]
    assert main([*base, "--format", "same", "-o", str(tmp_path / "out")]) == 0
    expected = {"a.png.png", "a.jpg.jpg", "a.png-compare.png", "a.jpg-compare.png"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == expected
    Image.fromarray(photograph[:9, :9]).save(tmp_path / "a.png-compare.png")
    with pytest.raises(SystemExit):
        main([*base, "--format", "same", "-o", str(tmp_path / "other")])
    assert "would both be written to" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_result_that_is_there_has_its_comparison(photograph, tmp_path, monkeypatch):
    """The result is written last, so that --skip-existing never skips an unfinished file."""
    Image.fromarray(photograph[:9, :9]).save(tmp_path / "in.png")
    from hypernet_jax import files

    def full(path, content, **options):
        del content, options
        raise UserError(f"The output {path} cannot be written (no room).")

    monkeypatch.setattr(files, "write_atomically", full)
    with pytest.raises(UserError, match=r"out-compare\.png"):
        restore_file(RESTORER, tmp_path / "in.png", tmp_path / "out.png", Options(20, compare=True))


def test_one_odd_file_stops_no_other(weights, photograph, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(photograph[:90, :90]).save(folder / "good.png")
    Image.fromarray(photograph[:1, :1]).save(folder / "tiny.png")
    command = ["restore", str(folder), "--weights", weights, "--level"]
    assert main([*command, "auto", "-o", str(tmp_path / "auto")]) == 1
    output = capsys.readouterr()
    assert "2 files: 1 restored, 1 failed" in output.out
    assert "too few to estimate the noise" in output.err
    from hypernet_jax.photographs import batch

    def odd(restorer, source, output, options):
        if source.name == "tiny.png":
            raise ZeroDivisionError("of a kind nobody foresaw")
        return restore_file(restorer, source, output, options)

    monkeypatch.setattr(batch, "restore_file", odd)
    assert main([*command, "9", "-o", str(tmp_path / "odd")]) == 1
    output = capsys.readouterr()
    assert "1 restored, 1 failed" in output.out and "Traceback" not in output.err
    assert "tiny.png cannot be restored (ZeroDivisionError: of a kind nobody foresaw)" in output.err


def test_an_output_that_cannot_be_written_is_told_before_the_work(photograph, tmp_path):
    Image.fromarray(photograph[:9, :9]).save(tmp_path / "in.png")
    with pytest.raises(UserError, match="its folder does not exist"):
        restore_file(RESTORER, tmp_path / "in.png", tmp_path / "none" / "out.png", Options(20))


@pytest.mark.parametrize("message", ["RESOURCE_EXHAUSTED: Out of memory.", "INTERNAL: a mistake"])
def test_a_device_without_room_is_reported(message, photograph, monkeypatch, capsys):
    error = jax.errors.JaxRuntimeError(message)

    def full(params, inputs, *, valid):
        del params, inputs, valid
        raise error

    restorer = tiny_restorer()
    monkeypatch.setattr(restorer.backend, "apply", full)
    full_device = message.startswith("RESOURCE")
    expected = (UserError, "allow less with --memory") if full_device else (type(error), "mistake")
    with pytest.raises(expected[0], match=expected[1]):
        restorer.restore(photograph[:9, :9], level=20)
    # Training has no tiles that could be smaller.
    with pytest.raises(SystemExit if full_device else type(error)), exit_with_sentence():
        raise error
    assert ("lower config.data.crops" in capsys.readouterr().err) == full_device


def test_results_are_not_restored_again(weights, photograph, tmp_path, capsys):
    source = tmp_path / "a.png"
    Image.fromarray(photograph[:9, :9]).save(source)
    before = source.read_bytes()
    base = ["restore", "--weights", weights, "--level", "9", "--skip-existing", "-o"]
    for output, message in ((tmp_path, "is the input folder"), (source, "is the input itself")):
        inputs = tmp_path if output is tmp_path else source
        with pytest.raises(SystemExit) as stop:
            main([*base, str(output), str(inputs)])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [source] and source.read_bytes() == before


def test_sweep_compare_blend_and_format(weights, photograph, tmp_path, capsys):
    source = tmp_path / "in.png"
    Image.fromarray(photograph[:60, :80]).save(source)
    base = ["restore", str(source), "--weights", weights, "-o"]
    assert main([*base, str(tmp_path / "sheet.png"), "--sweep", "5,15,25"]) == 0
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width > 4 * 80 and sheet.height == 60 + 22
    assert (
        main([*base, str(tmp_path / "out.jpg"), "--level", "9", "--compare", "--quality", "80"])
        == 0
    )
    compare = np.asarray(Image.open(tmp_path / "out-compare.png"))
    np.testing.assert_array_equal(compare[22:, :80], photograph[:60, :80])
    assert main([*base, str(tmp_path / "many"), "--level", "9", "--format", "webp"]) == 0
    assert [path.name for path in (tmp_path / "many").iterdir()] == ["in.webp"]
    assert main([*base, str(tmp_path / "same.png"), "--level", "9", "--blend", "0"]) == 0
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "same.png")), photograph[:60, :80]
    )
    capsys.readouterr()
    for wrong, words in (
        (["x.png", "--sweep", "5,500"], "from 0 to 100"),
        (["x.png", "--sweep", "5", "--level", "3"], "leave --level"),
        (["x.png", "--sweep", "5", "--level", ""], "leave --level"),
        (["x.png", "--sweep", "5", "--estimator", "e.safetensors"], "leave --estimator out"),
        (["x.png", "--sweep", "5", "--skip-existing"], "leave --skip-existing out"),
        (["x.png", "--sweep", "5", "--format", "jpeg"], "leave --format out"),
        (["x.png", "--sweep", "5", "--scale", "2", "--compare"], "leave --scale and --compare out"),
        (["x.jpg", "--sweep", "5"], "PNG file"),
        (["sheet.png", "--sweep", "5"], "already exists"),
        (["in.png", "--sweep", "5", "--overwrite"], "is the input itself"),
        (["x.png", "--level", "3", "--blend", "2"], "from 0 to 1"),
        (["x.png", "--level", "3", "--format", "jpeg"], "leave --format out"),
        (["x", "--level", "3", "--format", "xyz"], "Unknown format"),
        (["x.png", "--level", "3", "--quality", "3"], "no quality"),
        (["x.png", "--level", "3", "--jobs", "0"], "1 or more"),
    ):
        with pytest.raises(SystemExit) as stop:
            main([*base[:-1], "-o", str(tmp_path / wrong[0]), *wrong[1:]])
        message = capsys.readouterr().err
        assert stop.value.code == 2 and words in message and message.count("\n") == 1, wrong


def test_a_level_of_several_parts_is_stated_in_full(tmp_path):
    space = get_task("photo").space
    given = Restored((80, 60), space.parse("noise=15"))
    job = Job(tmp_path / "in.png", tmp_path / "out.png")
    assert _described(job, given).endswith("; level noise 15, JPEG quality 100, blur sigma 0")
    found = dataclasses.replace(given, estimate="estimated from the pixels")
    assert _described(job, found).endswith("blur sigma 0, estimated from the pixels")
    single = Restored((80, 60), get_task("denoise").space.parse(15))
    assert _described(job, single) == f"wrote {tmp_path / 'out.png'} (80x60)"


def test_transparency_of_any_depth_is_enlarged(photograph, tmp_path):
    samples = deep(photograph, 4)
    write_deep(tmp_path / "in.png", samples)
    restore_file(tiny_restorer("sr"), tmp_path / "in.png", tmp_path / "out.png", level=2)
    assert read_deep(tmp_path / "out.png").shape == (28, 42, 4)


def test_damaged_files_are_restored_or_refused(tmp_path):
    """A short run of benchmarks/damaged_files.py."""
    rng = np.random.default_rng(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in intact_files().items():
            assert try_file(RESTORER, content, name, tmp_path) == "restored", name
            for _ in range(5):
                try_file(RESTORER, damaged(content, rng), name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_breaks_nothing(tmp_path):
    import subprocess
    import sys

    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "home"):
        code = (
            "import os; os.environ.pop('JAX_COMPILATION_CACHE_DIR', None); "
            f"os.environ['XDG_CACHE_HOME'] = {str(home)!r}; "
            "from hypernet_jax.compilation_cache import keep_compiled_programs as keep; "
            "print(keep()); import jax; jax.jit(lambda x: x + 1)(1)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
    assert done.stdout.strip() == str(tmp_path / "home" / "hypernet_jax" / "compiled")
    assert list((tmp_path / "home" / "hypernet_jax" / "compiled").iterdir())


def test_encoding_is_in_memory_of_any_format(photograph):
    from hypernet_jax.images.reading import Photograph

    for form in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF"):
        content, notes = Encoding().encode(Photograph(photograph[:9, :8]), form)
        assert Image.open(io.BytesIO(content)).format == form and not notes


@pytest.mark.parametrize("task", ["denoise", "sr"])
def test_colours_that_nobody_sees_do_not_reach_the_edge(task, tmp_path):
    """Programs store black under full transparency."""
    y, x = np.mgrid[:40, :40]
    distance = np.hypot(y - 20, x - 20)
    alpha = np.clip(255 * (14 - distance), 0, 255).astype(np.uint8)
    yellow = np.where(alpha[..., None] > 0, np.uint8([250, 220, 40]), np.uint8(0))
    Image.fromarray(np.dstack([yellow, alpha])).save(tmp_path / "disc.png")
    restorer = Restorer.from_pretrained(task)
    level = {"denoise": 10, "sr": 3}[task]
    restore_file(restorer, tmp_path / "disc.png", tmp_path / "out.png", Options(level))
    found = np.asarray(Image.open(tmp_path / "out.png")).astype(int)
    edge = (found[..., 3] > 20) & (found[..., 3] < 235)
    assert edge.any() and np.abs(found[edge][:, :3] - [250, 220, 40]).max() < 40
    if task == "denoise":
        hidden = alpha == 0
        np.testing.assert_array_equal(found[hidden], np.dstack([yellow, alpha])[hidden])


@pytest.mark.parametrize(
    ("form", "channels"), [("png", 2), ("png", 4), ("tif", 2), ("tif", 4), ("webp", 4)]
)
def test_lossless_formats_keep_the_colours_of_invisible_pixels(form, channels, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, channels), np.uint8)
    pixels[:, 10:, -1] = 0
    Image.fromarray(pixels).save(tmp_path / "in.png")
    output = tmp_path / f"out.{form}"
    restore_file(RESTORER, tmp_path / "in.png", output, IDENTITY)
    found = read_photograph(output)
    np.testing.assert_array_equal(np.dstack([found.pixels, found.alpha]), pixels)


def test_an_opaque_alpha_channel_is_no_transparency(tmp_path):
    pixels = np.full((8, 8, 4), 255, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    restore_file(RESTORER, tmp_path / "opaque.png", tmp_path / "out.jpg", IDENTITY)
    pixels[0, 0, 3] = 254
    Image.fromarray(pixels).save(tmp_path / "faint.png")
    with pytest.raises(UserError, match="The input is transparent"):
        restore_file(RESTORER, tmp_path / "faint.png", tmp_path / "faint.jpg", IDENTITY)


def test_a_link_that_leads_nowhere_is_kept_and_so_are_permissions(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "in.png")
    (tmp_path / "link.png").symlink_to("gone.png")
    with pytest.raises(UserError, match="already exists"):
        restore_file(RESTORER, tmp_path / "in.png", tmp_path / "link.png", IDENTITY)
    private = tmp_path / "private.png"
    private.touch(mode=0o600)
    restore_file(
        RESTORER, tmp_path / "in.png", private, dataclasses.replace(IDENTITY, overwrite=True)
    )
    assert Image.open(private).size == (8, 8) and private.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level_map": {"jpeg": "mask.png"}}, "a mask for 'jpeg'"),
        ({"level_map": {}}, "has no mask"),
    ],
)
def test_masks_for_no_part_of_the_level_are_refused(options, message, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "in.png")
    with pytest.raises(UserError, match=message):
        restore_file(RESTORER, tmp_path / "in.png", tmp_path / "out.png", Options(5, **options))
    assert not (tmp_path / "out.png").exists()


def test_a_blend_out_of_range_is_refused_at_once():
    with pytest.raises(UserError, match="from 0 to 1"):
        Options(5, blend=3)
