"""The quality of a JPEG file, from its quantisation tables."""

from pathlib import Path

import numpy as np

from hypernet_jax.degradations.jpeg import quantisation_tables
from hypernet_jax.images.opening import open_header

__all__ = ["quality_of_file"]


def quality_of_file(path: Path) -> tuple[int, bool] | None:
    """Reads the quality of a JPEG file.

    Args:
      path: any file.

    Returns:
      (quality, exact), or None if the file is not a readable JPEG. The quality, 1 to 100, is
      exact if libjpeg uses the same tables at it; otherwise it is the quality whose tables are
      nearest, by the mean difference in the logarithm of their entries. Tables beyond the first
      are for chrominance, unless they equal the first.
    """
    try:
        with open_header(path) as picture:
            if picture.format not in ("JPEG", "MPO"):
                return None
            tables = picture.quantization  # type: ignore[attr-defined]
    except (OSError, ValueError, SyntaxError):
        return None
    # In the order of their numbers, whatever the order in the file: luminance is first.
    found = [np.asarray(tables[number], float) for number in sorted(tables)]
    if not found or any((table < 1).any() for table in found):
        return None
    distances = []
    for quality in range(1, 101):
        luma, chroma = quantisation_tables(quality)
        # A file may have only the luminance table (grey), or three tables (some cameras).
        standard = [luma if (own == found[0]).all() else chroma for own in found]
        logs = [np.abs(np.log(f) - np.log(s)) for f, s in zip(found, standard, strict=True)]
        distances.append(float(np.mean(logs)))
    best = int(np.argmin(distances))
    return best + 1, distances[best] == 0.0
