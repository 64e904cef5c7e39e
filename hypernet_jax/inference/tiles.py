"""Which tiles an image is restored in: their places, their sizes, and how many at a time.

A tile is the part of the image that its pixels depend on, so that the pixels
kept from it are those that the whole image would give. Sizes come from a short
list, whatever the image's: what a tile has beyond the image is masked away.
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

# Sides of tiles, multiples of what every network needs: each pair is one compiled program.
_SIDES = (32, 64, 128, 192, 256, 384, 512, 768, 1024)
# Smaller tiles go in batches on CPUs.
SMALLEST_ALONE = 256
# How many numbers of tiles along one axis are looked at, and by how much the large ones differ;
# the largest is about 4,000.
_MOST_PLANS, _GROWTH = 80, 1.11
# Images at once, where they fit: a few sizes, so few programs.
_BATCHES = (64, 16, 4, 1)


@dataclasses.dataclass(frozen=True)
class Span:
    """One tile along one axis.

    Attributes:
      start: where the tile begins in the image, a multiple of what the network needs.
      side: its length; it may reach beyond the image.
      valid: how much of it lies in the image, padded to a multiple of what the network needs.
      keep: the part of the image, start and stop, that is taken from it.
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
    """Ways to cover one axis by tiles all of one side.

    Args:
      length: of the image.
      window: start and stop of what is wanted.
      halo: how far the network sees.
      multiple: what the network's sides must be multiples of.
      largest: no side is longer than this.
      sides: to choose from; None for those that programs are compiled for.
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
            f"Tiles of {largest} pixels are too small for a network that sees {halo} pixels "
            "around each; allow more memory."
        )
    return plans


def even_sides(window: tuple[int, int], *, halo: int, multiple: int) -> list[int]:
    """Sides that cut a window into so many tiles of about equal length, 1 and more."""
    length = window[1] - window[0]
    # All small numbers of tiles, and ever fewer of the larger ones.
    counts = {min(length, int(_GROWTH**power) + power) for power in range(_MOST_PLANS)}
    # A tile may begin up to a multiple before what it must see.
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
    """Of the plans of both axes the two that are done first.

    Args:
      rows, columns: as `axis_plans` returns them.
      at_once: how many tiles are in work at the same time.
      pixels: that a tile may have.
      padded: what a tile has beyond the image is computed, too.
    """

    # Nothing is cut into tiles that would be batched in always other numbers: each number is a
    # program, and so is each pair of sides.
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
    # Where none is small enough, the smallest.
    return min([plan for plan in both if area(plan) <= pixels] or [min(both, key=area)], key=cost)


def largest_side(memory: float, bytes_per_pixel: float) -> int:
    """The longest side whose square tile fits into so many bytes; 0 if none does."""
    return max((side for side in _SIDES if side**2 * bytes_per_pixel <= memory), default=0)


def smallest_side(length: int) -> int:
    """The shortest side that is longer than this."""
    return next(side for side in _SIDES if side > length)


def tiles(count: int, rows: list[Span], columns: list[Span]) -> list[Tile]:
    """All tiles of `count` images of one size."""
    return [Tile(*which) for which in itertools.product(range(count), rows, columns)]


def batches(tiles: list[Tile], pixels: float) -> Iterator[list[Tile]]:
    """Tiles in batches of a few sizes, of no more pixels than this, but one tile at least."""
    area = tiles[0].rows.side * tiles[0].columns.side
    done = 0
    while done < len(tiles):
        fitting = min(len(tiles) - done, math.floor(pixels / area))
        size = next((size for size in _BATCHES if size <= fitting), 1)
        yield tiles[done : done + size]
        done += size
