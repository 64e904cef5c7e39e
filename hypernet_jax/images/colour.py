"""Colour spaces that files declare without an ICC profile, and equivalent profiles.

PNG has chunks for gamma, chromaticities and code points (ITU-T H.273); AVIF has code points in
its nclx box.
"""

import dataclasses
import re
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hypernet_jax.images.png_chunks import Chunk

__all__ = ["Colour", "colour_of_chunks", "nclx_chunks", "profile_misfit"]

# x and y of white, red, green and blue.
_D65 = (0.3127, 0.3290)
_SRGB = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_SMPTE_170M = (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070)
# By code point of H.273.
_PRIMARIES = {
    1: _SRGB,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: _SMPTE_170M,
    7: _SMPTE_170M,
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
# Names of curves, or the exponent from samples to light. The video curve (1, 6, 14 and 15) is
# treated as sRGB.
_TRANSFERS: dict[int, str | float] = {
    1: "sRGB", 4: 2.2, 5: 2.8, 6: "sRGB", 8: 1.0, 13: "sRGB", 14: "sRGB", 15: "sRGB",
    16: "PQ", 18: "HLG",
}  # fmt: skip
_UNSPECIFIED = 2
# In 100,000ths, the unit of PNG; exponents above 20 are rejected.
_LEAST_GAMMA = 5_000
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


@dataclasses.dataclass(frozen=True)
class Colour:
    """A colour space.

    Attributes:
      primaries: x and y of white, red, green and blue.
      transfer: "sRGB", "PQ" or "HLG", or the exponent from samples to light.
      full_range: whether black is 0 and white the largest value.
    """

    primaries: tuple[float, ...] = _SRGB
    transfer: str | float = "sRGB"
    full_range: bool = True

    @property
    def is_srgb(self) -> bool:
        """Whether it is sRGB, the default for files that declare no colour space."""
        same_curve = self.transfer == "sRGB" or (
            not isinstance(self.transfer, str) and abs(self.transfer - 2.2) < 0.01
        )
        return (
            self.full_range and same_curve and bool(np.allclose(self.primaries, _SRGB, atol=1e-3))
        )

    def note(self) -> str | None:
        """A note if the networks, which were trained on gamma-encoded pictures, may do worse."""
        known = "the networks were trained on gamma-encoded pictures only"
        if not self.full_range:
            return "its samples have the limited range of video, which was not expanded"
        if self.transfer in ("PQ", "HLG"):
            return f"its samples are HDR ({self.transfer}), but {known}"
        if self.transfer == 1.0:
            return f"its samples are linear in light, but {known}"
        return None

    def profile(self, *, grey: bool) -> bytes | None:
        """The equivalent ICC profile; None for sRGB, and for spaces without one, such as HDR."""
        if self.is_srgb or self.transfer in ("PQ", "HLG") or not self.full_range:
            return None
        if self.transfer == "sRGB":
            curve = struct.pack(
                ">4s4xHxx5i", b"para", 3,
                *_fixed([2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045]),
            )  # fmt: skip
        else:
            curve = struct.pack(">4s4xHxxi", b"para", 0, *_fixed([float(self.transfer)]))
        tags = [
            (b"desc", _text("Made from the colours that the file declared")),
            (b"cprt", _text("No copyright")),
            (b"wtpt", _xyz(_D50)),
        ]
        if grey:
            tags.append((b"kTRC", curve))
        else:
            colorants = self._to_d50()
            tags += [(b"rgb"[i : i + 1] + b"XYZ", _xyz(colorants[:, i])) for i in range(3)]
            tags += [(b"rgb"[i : i + 1] + b"TRC", curve) for i in range(3)]
        return _icc(b"GRAY" if grey else b"RGB ", tags)

    def _to_d50(self) -> np.ndarray:
        """XYZ of red, green and blue as columns, adapted from its white point to D50."""
        xy = np.reshape(self.primaries, (4, 2))
        xyz = np.column_stack([xy, 1.0 - xy.sum(axis=1)]) / xy[:, 1:]
        white, colours = xyz[0], xyz[1:].T
        colours = colours * np.linalg.solve(colours, white)
        cones = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
        return np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD @ colours


def _fixed(values: Sequence[float] | np.ndarray) -> list[int]:
    return [round(float(value) * 65536) for value in values]


def _xyz(values: np.ndarray) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *_fixed(values))


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    return struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(encoded), 28) + encoded


def _icc(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    """A display profile, ICC.1:2010 (version 4.3)."""
    start = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    placed: dict[bytes, int] = {}
    for name, content in tags:
        if content not in placed:
            placed[content] = start + len(data)
            data += content.ljust(-(-len(content) // 4) * 4, b"\0")
        table += struct.pack(">4sII", name, placed[content], len(content))
    head = struct.pack(
        ">I4x4s4s4s4s6H4s12xI8xI3i", start + len(data), b"\x04\x30\0\0", b"mntr", space, b"XYZ ",
        2026, 1, 1, 0, 0, 0, b"acsp", 0, 0, *_fixed(_D50),
    )  # fmt: skip
    return head.ljust(128, b"\0") + table + data


def _of_code_points(primaries: int, transfer: int) -> Colour | None:
    """The colour space of code points; None if unknown. Unspecified ones mean sRGB."""
    known = _PRIMARIES | {_UNSPECIFIED: _SRGB}
    curves = _TRANSFERS | {_UNSPECIFIED: "sRGB"}
    if primaries not in known or transfer not in curves:
        return None
    return Colour(known[primaries], curves[transfer])


def colour_of_chunks(chunks: Sequence[Chunk]) -> Colour | None:
    """The colour space in a PNG file's chunks; None if they have none that is supported."""
    found = dict(chunks)
    code = found.get(b"cICP", b"")
    if len(code) == 4 and (meant := _of_code_points(code[0], code[1])) is not None:
        return dataclasses.replace(meant, full_range=bool(code[3]))
    if b"sRGB" in found:
        return Colour()
    gamma, places = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    colour = None
    value = int.from_bytes(gamma, "big") if len(gamma) == 4 else 0
    if _LEAST_GAMMA <= value <= 1e10 / _LEAST_GAMMA:
        colour = Colour(transfer=1e5 / value)
    if len(places) == 32:
        primaries = tuple(value / 1e5 for value in struct.unpack(">8I", places))
        curve = colour.transfer if colour is not None else "sRGB"
        possible = all(0 <= place <= 1.2 for place in primaries) and min(primaries[1::2]) > 0
        if possible and _spans_a_triangle(primaries):
            colour = Colour(primaries, curve)
    return colour


def _spans_a_triangle(primaries: tuple[float, ...]) -> bool:
    red, green, blue = np.reshape(primaries, (4, 2))[1:]
    sides = np.array([green - red, blue - red])
    return bool(abs(np.linalg.det(sides)) > 1e-6)


def nclx_chunks(path: Path) -> tuple[Chunk, ...]:
    """The colour code points of an AVIF file as a PNG chunk; () for none or sRGB."""
    with path.open("rb") as file:
        found = re.search(rb"colrnclx(....)..", file.read(1 << 16), re.DOTALL)
    if found is None:
        return ()
    primaries, transfer = struct.unpack(">HH", found[1])
    known = _of_code_points(primaries, transfer)
    if max(primaries, transfer) > 255 or (known is not None and known.is_srgb):
        return ()
    # Decoded samples are full-range RGB.
    return ((b"cICP", bytes([primaries, transfer, 0, 1])),)


def profile_misfit(profile: bytes, *, grey: bool) -> str | None:
    """The kind of picture that a profile is for if it does not fit; None if it fits."""
    if profile[36:40] != b"acsp":
        return None
    kinds = {b"GRAY": "grey", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "Lab"}
    wanted = b"GRAY" if grey else b"RGB "
    found = profile[16:20]
    return None if found == wanted else kinds.get(found, "other")
