"""Pillow as an independent judge of 200 outputs: formats, depths, colours, metadata."""

import itertools
import struct

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from hypernet_jax.images.colour import Colour
from hypernet_jax.images.pfm import encode_pfm
from hypernet_jax.images.png_chunks import with_chunks
from hypernet_jax.photographs.restoring import Options, restore_file

from . import tiff_blocks
from .models import RESTORER

RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = Colour(transfer=1.8).profile(grey=True)
GAMMA = (b"gAMA", struct.pack(">I", 55555))
HEIGHT, WIDTH = 8, 13
NAME = "Zoë".encode()
EXIF = tiff_blocks.build(
    ">",
    {
        0: {0x112: (3, 1, struct.pack(">H", 6)), 0x13B: (2, 5, NAME + b"\0")},
        tiff_blocks.EXIF: {0x829A: (5, 1, struct.pack(">II", 1, 60))},
    },
)
INPUTS = ("png", "png16", "jpg", "webp", "tif", "tif16", "float.tif", "avif", "bmp", "pfm")
OUTPUTS = ("png", "jpg", "webp", "tif", "avif")
LOSSY = ("jpg", "webp", "avif")


def samples_of(kind: str, channels: int) -> np.ndarray:
    ramp = np.linspace(0.05, 0.9, HEIGHT * WIDTH * channels).reshape(HEIGHT, WIDTH, channels)
    if kind in ("float.tif", "pfm"):
        return ramp.astype(np.float32)
    deep = kind.endswith("16")
    return np.round(ramp * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)


def write(path, kind: str, samples: np.ndarray, *, profile, carries: bool) -> None:
    """Writes one input; `carries`: with EXIF orientation and resolution if the format has them."""
    plain = samples[..., 0] if samples.shape[-1] == 1 else samples
    options: dict = {"icc_profile": profile}
    if carries:
        options |= {"exif": b"Exif\0\0" + EXIF, "dpi": (300, 150)}
    if kind == "pfm":
        path.write_bytes(encode_pfm(samples[..., :3] if samples.shape[-1] != 1 else samples))
    elif kind in ("png16", "tif", "tif16", "float.tif"):
        if kind == "png16":
            chunks = [(b"eXIf", EXIF)] if carries else []
            path.write_bytes(with_chunks(bytes(imagecodecs.png_encode(plain)), chunks))
            return
        tags = [(0x13B, 2, 5, NAME + b"\0", True), (0x112, "H", 1, 6, True)] if carries else []
        tifffile.imwrite(
            path,
            plain,
            photometric="rgb" if samples.shape[-1] > 2 else "minisblack",
            extrasamples=["unassalpha"] if samples.shape[-1] in (2, 4) else None,
            iccprofile=profile,
            resolution=(300, 150) if carries else None,
            resolutionunit="INCH" if carries else None,
            extratags=tags,
            metadata=None,
        )
    else:
        form = {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper())
        quality = {"lossless": True} if kind == "webp" else {"quality": 95}
        Image.fromarray(plain).save(path, form, **options, **quality)


def cases():
    plans = itertools.product(INPUTS, (1, 3, 4), (False, True), (False, True))
    kept = []
    for kind, channels, profiled, carries in plans:
        no_place = (channels == 4 and kind in ("jpg", "bmp", "pfm")) or (
            (profiled or carries) and kind in ("bmp", "pfm")
        )
        no_place |= channels == 1 and kind == "webp"  # it has no grey pictures
        if not no_place:
            kept += [(kind, channels, profiled, carries, target) for target in OUTPUTS]
    rng = np.random.default_rng(0)
    return [kept[index] for index in sorted(rng.permutation(len(kept))[:200])]


def test_two_hundred_outputs(tmp_path):
    plans = cases()
    assert len(plans) == 200
    for index, (kind, channels, profiled, carries, target) in enumerate(plans):
        what = (kind, channels, profiled, carries, target)
        samples = samples_of(kind, channels)
        profile = (GREY_PROFILE if channels == 1 else RGB_PROFILE) if profiled else None
        if kind == "png16":
            profile = None
        source = tmp_path / f"{index}.{kind.removesuffix('16')}"
        write(source, kind, samples, profile=profile, carries=carries)
        output = tmp_path / f"{index}-out.{target}"
        if channels == 4 and target == "jpg":
            output = output.with_suffix(".png")
        restored = restore_file(RESTORER, source, output, Options(9.0, blend=0.0))
        notes = " ".join(restored.notes)
        check_pixels(output, samples, carries, kind, what)
        if output.suffix == ".tif" and (kind in ("float.tif", "pfm") or channels == 1):
            # Pillow supports neither colour floats nor 16-bit grey in all byte orders.
            continue
        with Image.open(output) as out:
            out.load()
            assert out.size == ((HEIGHT, WIDTH) if carries else (WIDTH, HEIGHT)), what
            if target == "webp":
                assert out.mode == ("RGBA" if channels == 4 else "RGB"), what
            elif out.mode not in ("I;16", "I;16B", "F"):
                assert out.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels], what
            kept = out.info.get("icc_profile")
            assert kept == profile or (kept is None and "profile" in notes), what
            found = out.getexif()
            assert found.get(0x112, 1) == 1, what
            if carries and kind != "avif":  # rewritten by Pillow
                if output.suffix == ".tif":
                    assert out.tag_v2[0x13B] in (NAME.decode("latin-1"), NAME.decode()), what
                assert NAME in output.read_bytes(), what
            has_dpi = carries and kind not in ("png16", "webp", "avif")
            if has_dpi and output.suffix in (".png", ".jpg", ".tif"):
                assert out.info["dpi"] == pytest.approx((150, 300), abs=0.5), what


def check_pixels(output, samples, carries, kind, what):
    """At blend 0 the output equals the input at its own bit depth, read by Pillow or as floats."""
    expected = samples.astype(np.float64)
    expected /= {"u1": 255, "u2": 65535, "f4": 1}[samples.dtype.str[1:]]
    expected = np.rot90(expected, -1) if carries else expected
    if output.suffix == ".tif":
        found = tifffile.imread(output)
    elif output.suffix == ".png":
        found = imagecodecs.png_decode(output.read_bytes())
    else:
        with Image.open(output) as out:
            mode = "L" if expected.shape[-1] == 1 else out.mode
            found = np.asarray(out.convert(mode))
    found = found.reshape(*expected.shape[:2], -1)
    found = found / {"u1": 255, "u2": 65535, "f4": 1}[found.dtype.newbyteorder("<").str[1:]]
    loss = 0.05 if {output.suffix[1:], kind} & set(LOSSY) - {"webp"} else 0.002
    assert np.abs(found - expected).max() <= loss, what


def test_colour_chunks_reach_every_png(tmp_path):
    for index, (depth, channels) in enumerate(itertools.product((8, 16), (1, 3, 4))):
        samples = samples_of("png16" if depth == 16 else "png", channels)
        plain = samples[..., 0] if channels == 1 else samples
        content = with_chunks(bytes(imagecodecs.png_encode(plain)), [GAMMA])
        (tmp_path / f"{index}.png").write_bytes(content)
        restore_file(
            RESTORER, tmp_path / f"{index}.png", tmp_path / f"{index}-out.png", Options(9.0)
        )
        with Image.open(tmp_path / f"{index}-out.png") as out:
            assert out.info["gamma"] == pytest.approx(0.55555)
