"""Tiling: the positions and sizes of an image's tiles, and their batches.

A tile includes everything that the pixels kept from it depend on, so they equal
those of the whole image. Tile sizes come from a short list, whatever the size of
the image; what lies beyond the image is masked.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from hypernet_jax.errors import UserError

__all__ = [
    "SMALLEST_ALONE",
    "Span",
    "Tile",
    "axis_plans",
    "batches",
    "cheapest_plan",
    "even_sides",
    "largest_side",
    "smallest_side",
    "tiles",
]

# Sides of tiles, multiples of what every network needs; each pair is one compiled program.
_SIDES = (32, 64, 128, 192, 256, 384, 512, 768, 1024)
# Smaller tiles are batched on CPUs.
SMALLEST_ALONE = 256
# How many tile counts along one axis are tried, and the ratio between large ones; the largest
# count is about 4,000.
_MOST_PLANS, _GROWTH = 80, 1.11
# Batch sizes; few, so that there are few programs.
_BATCHES = (64, 16, 4, 1)


@dataclasses.dataclass(frozen=True)
class Span:
    """One tile along one axis.

    Attributes:
      start: where the tile begins in the image, a multiple of what the network needs.
      side: its length; it may extend beyond the image.
      valid: how much of it lies in the image, padded to a multiple of what the network needs.
      keep: start and stop, in the image, of the pixels that are kept from it.
    """

    start: int
    side: int
    valid: int
    keep: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Tile:
    """A tile of one image of a batch."""

    image: int
    rows: Span
    columns: Span


def _spans(length: int, window: tuple[int, int], side: int, halo: int, multiple: int) -> list[Span]:
    low, high = window
    spans = []
    while low < high:
        start = max(0, low - halo)
        start -= start % multiple
        valid = min(length - start, side)
        stop = start + side - halo if start + side < length else high
        stop = min(stop, high)
        if stop <= low:
            return []
        spans.append(Span(start, side, valid, (low, stop)))
        low = stop
    return spans


def axis_plans(
    length: int,
    window: tuple[int, int],
    *,
    halo: int,
    multiple: int,
    largest: int,
    sides: Sequence[int] | None = None,
) -> list[list[Span]]:
    """Plans that cover one axis with tiles of equal side.

    Args:
      length: of the image.
      window: start and stop of the part to cover.
      halo: reach of the network, in pixels.
      multiple: tile sides must be multiples of this.
      largest: the longest allowed side.
      sides: sides to choose from; None: those of compiled programs.
    """
    padded = length + -length % multiple
    some = _SIDES if sides is None else sides
    plans = [
        spans
        for side in some
        if side <= largest and (spans := _spans(padded, window, side, halo, multiple))
    ]
    if not plans:
        raise UserError(
            f"Tiles of {largest} pixels are too small for a network with a reach of {halo} "
            "pixels; allow more memory."
        )
    return plans


def even_sides(window: tuple[int, int], *, halo: int, multiple: int) -> list[int]:
    """Sides that split a window into 1, 2, ... tiles of about equal length."""
    length = window[1] - window[0]
    # All small counts of tiles, and fewer of the large ones.
    counts = {min(length, int(_GROWTH**power) + power) for power in range(_MOST_PLANS)}
    # A tile's start is rounded down to a multiple, so it may need up to that much more.
    sides = (-(-length // count) + 2 * (halo + multiple) for count in counts | {1})
    return sorted({side + -side % multiple for side in sides})


def cheapest_plan(
    rows: list[list[Span]],
    columns: list[list[Span]],
    *,
    at_once: int,
    pixels: float = math.inf,
    padded: bool = True,
) -> tuple[list[Span], list[Span]]:
    """The pair of plans, one per axis, that takes the least time.

    Args:
      rows, columns: as `axis_plans` returns them.
      at_once: how many tiles are computed at once.
      pixels: the most pixels in a tile.
      padded: padding beyond the image is computed too.
    """

    # Avoids cutting an image into small tiles, which are batched: each batch size is another
    # program, as is each pair of sides.
    def cost(plan: tuple[list[Span], list[Span]]) -> tuple[bool, float, int]:
        down, across = plan
        sides = (down[0].side, across[0].side)
        if not padded:
            valid = [sum(span.valid for span in axis) for axis in plan]
            return False, valid[0] * valid[1], len(down) * len(across)
        cut_small = any(len(axis) > 1 and axis[0].side < SMALLEST_ALONE for axis in plan)
        rounds = math.ceil(len(down) * len(across) / at_once)
        return cut_small, rounds * sides[0] * sides[1], sum(sides)

    def area(plan: tuple[list[Span], list[Span]]) -> int:
        if padded:
            return plan[0][0].side * plan[1][0].side
        down, across = (max(span.valid for span in axis) for axis in plan)
        return down * across

    both = list(itertools.product(rows, columns))
    # If none is small enough, the smallest.
    return min([plan for plan in both if area(plan) <= pixels] or [min(both, key=area)], key=cost)


def largest_side(memory: float, bytes_per_pixel: float) -> int:
    """The longest side whose square tile fits into `memory` bytes; 0 if none does."""
    return max((side for side in _SIDES if side**2 * bytes_per_pixel <= memory), default=0)


def smallest_side(length: int) -> int:
    """The shortest side of a tile that is longer than `length`.

    Raises:
      UserError: if there is none.
    """
    for side in _SIDES:
        if side > length:
            return side
    raise UserError(
        f"The network sees so far that its tiles need more than {length} pixels, and the largest "
        f"have {_SIDES[-1]}; take one with fewer layers or scales."
    )


def tiles(count: int, rows: list[Span], columns: list[Span]) -> list[Tile]:
    """All tiles of `count` images of equal size."""
    return [Tile(*which) for which in itertools.product(range(count), rows, columns)]


def batches(tiles: list[Tile], pixels: float) -> Iterator[list[Tile]]:
    """Yields batches of at least one tile and at most `pixels` pixels, in a few batch sizes."""
    area = tiles[0].rows.side * tiles[0].columns.side
    done = 0
    while done < len(tiles):
        fitting = min(len(tiles) - done, math.floor(pixels / area))
        size = next((size for size in _BATCHES if size <= fitting), 1)
        yield tiles[done : done + size]
        done += size
