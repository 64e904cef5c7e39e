"""Raw files for tests."""

import numpy as np
import tifffile


def dng(path, photograph, *, profile=None, neutral=(1, 1, 1)):
    """Writes a raw file like a camera without a tone curve.

    A profile (slope, offset) adds that noise and is stored in the file; `neutral` is the sensor's
    response to white.
    """
    shares = photograph / 255.0
    linear = np.where(shares < 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    linear = linear * neutral
    if profile is not None:
        deviation = np.sqrt(profile[0] * linear + profile[1])
        linear = linear + deviation * np.random.default_rng(0).normal(size=linear.shape)
        linear = np.clip(np.nan_to_num(linear), 0, 1)
    height, width = (length // 2 * 2 for length in linear.shape[:2])
    mosaic = np.empty((height, width), np.uint16)
    scale = 16383
    mosaic[::2, ::2] = scale * linear[:height:2, :width:2, 0]
    mosaic[::2, 1::2] = scale * linear[:height:2, 1:width:2, 1]
    mosaic[1::2, ::2] = scale * linear[1:height:2, :width:2, 1]
    mosaic[1::2, 1::2] = scale * linear[1:height:2, 1:width:2, 2]
    # From XYZ to camera colours, which are those of sRGB.
    matrix = np.round(1e4 * np.linalg.inv([
        [0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505],
    ])).astype(int).ravel()  # fmt: skip
    pairs = [part for value in matrix for part in (int(value), 10000)]
    tags = [
        (50706, "B", 4, (1, 4, 0, 0), True),
        (50708, "s", 0, "Test", True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, (0, 1, 1, 2), True),
        (50717, "I", 1, scale, True),
        (50721, "2i", 9, tuple(pairs), True),
        (50728, "2I", 3, tuple(n for v in neutral for n in (round(1000 * v), 1000)), True),
        (50778, "H", 1, 21, True),
        (271, "s", 0, "Maker", True),
        (315, "s", 0, "Somebody", True),
    ]
    if profile is not None:
        tags.append((51041, "d", 2, profile, True))
    tifffile.imwrite(path, mosaic, photometric=32803, extratags=tags, metadata=None)
