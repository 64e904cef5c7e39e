"""Tests thousands of damaged files: each must be restored, or refused with a sentence.

    python benchmarks/damaged_files.py --count 2000

Files of every format and bit depth are made from a real photograph, then truncated,
overwritten in places or given flipped bits. The run exits with status 1 after another
exception, an incomplete output, a file left behind, or a file that takes longer than
the limit. Last line: JSON.
"""

import argparse
import io
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import imagecodecs
import numpy as np
import skimage.data
import tifffile
from PIL import Image, ImageCms

from hypernet_jax import Restorer, UserError
from hypernet_jax.photographs.restoring import restore_file

__all__ = ["damaged", "intact_files", "try_file"]


def intact_files(size: tuple[int, int] = (48, 37)) -> dict[str, bytes]:
    """Real files by name, in every readable format, mode and bit depth."""
    photograph = Image.fromarray(skimage.data.coffee()).resize(size)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    exif.get_ifd(0x8769)[0x829A] = 0.01
    carried = {"icc_profile": profile, "exif": exif.tobytes()}
    files = {}
    for name, mode, form, options in (
        ("rgb.png", "RGB", "PNG", carried),
        ("palette.png", "P", "PNG", {"transparency": 3}),
        ("alpha.png", "RGBA", "PNG", {}),
        ("grey.jpg", "L", "JPEG", {"quality": 70}),
        ("rgb.jpg", "RGB", "JPEG", carried | {"quality": 80}),
        ("progressive.jpg", "RGB", "JPEG", {"progressive": True}),
        ("cmyk.jpg", "CMYK", "JPEG", {}),
        ("rgb.webp", "RGB", "WEBP", carried),
        ("alpha.webp", "RGBA", "WEBP", {"lossless": True}),
        ("rgb.avif", "RGB", "AVIF", carried),
        ("rgb.tif", "RGB", "TIFF", {"compression": "tiff_lzw"}),
        ("jpeg.tif", "RGB", "TIFF", {"compression": "jpeg"}),
        ("rgb.bmp", "RGB", "BMP", {}),
        ("rgb.gif", "P", "GIF", {}),
        ("rgb.ppm", "RGB", "PPM", {}),
        ("rgb.tga", "RGB", "TGA", {"compression": "tga_rle"}),
    ):
        stream = io.BytesIO()
        photograph.convert(mode).save(stream, form, **options)
        files[name] = stream.getvalue()
    deep = np.asarray(photograph).astype(np.uint16) * 257
    files["deep.png"] = bytes(imagecodecs.png_encode(deep))
    files["deep-grey-alpha.png"] = bytes(imagecodecs.png_encode(deep[..., :2].copy()))
    files["deep.jp2"] = bytes(imagecodecs.jpeg2k_encode(deep, level=0, reversible=True))
    files["deep.avif"] = bytes(imagecodecs.avif_encode(deep >> 6, bitspersample=10))
    for name, options in (
        ("deep.tif", {"compression": "zlib", "predictor": True}),
        ("deep-plain.tif", {}),
        ("deep-lzw.tif", {"compression": "lzw"}),
        ("deep-planes.tif", {"planarconfig": "separate"}),
    ):
        stream = io.BytesIO()
        samples = np.moveaxis(deep, -1, 0) if "planarconfig" in options else deep
        tifffile.imwrite(stream, samples, photometric="rgb", **options)
        files[name] = stream.getvalue()
    return files


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content truncated, with flipped bits, random or zero bytes, or a duplicated part."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.integers(5)
        # Half of the damage is near the start: headers are short, but errors there matter most.
        near = min(len(data), 400) if rng.random() < 0.5 else len(data)
        at = int(rng.integers(max(near, 1)))
        if kind == 0:
            del data[max(at, 1) :]
        elif kind == 1:
            for place in rng.integers(0, max(near, 1), int(rng.integers(1, 20))):
                data[place % len(data)] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            data[at : at + 8] = rng.bytes(8)
        elif kind == 3:
            data[at : at + 16] = bytes(16)
        else:
            data[at:at] = data[at // 2 : at]
        if not data:
            break
    return bytes(data)


def try_file(restorer: Restorer, content: bytes, name: str, folder: Path) -> str:
    """Tries one file; returns "restored" or "refused", and raises on anything else."""
    source, output = folder / name, folder / "out.png"
    source.write_bytes(content)
    output.unlink(missing_ok=True)
    try:
        restore_file(restorer, source, output, level=20, limit=1.0)
    except UserError as error:
        sentence = str(error)
        if "\n" in sentence or not sentence.endswith("."):
            raise AssertionError(f"no sentence: {sentence!r}") from None
        found = "refused"
    else:
        with Image.open(output) as picture:
            picture.load()
        found = "restored"
    left = {path.name for path in folder.iterdir()} - {name}
    if left != ({"out.png"} if found == "restored" else set()):
        raise AssertionError(f"left behind: {left}")
    source.unlink()
    output.unlink(missing_ok=True)
    return found


def main() -> int:
    """Damages and tries files; prints the outcomes for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0, help="time limit per file")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    restorer = Restorer.from_pretrained("denoise")
    files = list(intact_files().items())
    rng = np.random.default_rng(args.seed)
    outcomes: dict[str, Counter] = {name: Counter() for name, _ in files}
    slowest, failures = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        for index in range(args.count):
            name, content = files[index % len(files)]
            broken = damaged(content, rng)
            start = time.perf_counter()
            try:
                outcomes[name][try_file(restorer, broken, name, Path(folder))] += 1
            # Any other exception is a failure.
            except Exception as error:
                failures += 1
                print(f"{name}, file {index}: {type(error).__name__}: {error}", file=sys.stderr)
                for path in Path(folder).iterdir():
                    path.unlink()
            slowest = max(slowest, time.perf_counter() - start)
    for name, counts in outcomes.items():
        print(f"{name:22} {counts['restored']:5} restored {counts['refused']:5} refused")
    summary = {"files": args.count, "failures": failures, "slowest_seconds": round(slowest, 2)}
    print(json.dumps(summary))
    return 1 if failures or slowest > args.seconds else 0


if __name__ == "__main__":
    sys.exit(main())
