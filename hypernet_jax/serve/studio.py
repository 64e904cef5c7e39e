"""The operations of the page on photographs, independent of any web framework."""

import contextlib
import dataclasses
import functools
import io
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from hypernet_jax.degradations import bicubic_reduce
from hypernet_jax.errors import UserError, real_number
from hypernet_jax.files import write_atomically
from hypernet_jax.images.reading import Photograph, read_photograph
from hypernet_jax.images.srgb import in_srgb
from hypernet_jax.images.writing import Encoding
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.inference.restorer import Progress, Restorer
from hypernet_jax.levels import AUTO, STRONGEST, Level
from hypernet_jax.photographs.level_maps import blend_of_mask, level_map, mask_of_size
from hypernet_jax.photographs.restoring import (
    enlarged_alpha,
    restore_photograph,
    visible_everywhere,
)
from hypernet_jax.photographs.sheets import before_pixels, shown
from hypernet_jax.tasks import TASKS, Task, get_task

__all__ = ["NOTHING", "OVERVIEW_SIDE", "Given", "Studio", "Whole", "as_shown", "starting_value"]

# Initial strength; if a level has several parts, the slider scales the estimated level.
STRENGTH = 1.0

OVERVIEW_SIDE = 560
# Decoded photographs to cache, so that the slider does not decode them again.
_KEPT = 4

# Context around the window in pixels, for speed less than the reach: farther pixels matter little.
_MARGIN = 16
# Margin of the cut-out for a window with a mask; its edges are at multiples of this.
_AROUND = 32

Part = tuple[slice, slice]


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """A visitor's input besides the slider.

    Attributes:
      mask: for the whole photograph, in any size, (H, W) in [0, 1]: the share of the level at
        each pixel. Not used if the task enlarges.
      parts: the values of the sliders of the parts, in native units; None for what was found.
      path: the photograph that the mask belongs to.
    """

    mask: np.ndarray | None = None
    parts: tuple[float | None, ...] | None = None
    path: str | None = None


NOTHING = Given()


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole photograph that was restored.

    Attributes:
      file: the result.
      level: the level that it was restored at.
      notes: as in `Restored`.
    """

    file: Path
    level: Level
    notes: tuple[str, ...]


class Studio:
    """Restores windows of photographs, or whole ones; identifies photographs by path.

    Args:
      limit: the largest photograph and enlargement, in megapixels.
      restorers: by task; for other tasks the shipped weights are loaded on first use.
    """

    def __init__(self, *, limit: float, restorers: dict[str, Restorer] | None = None):
        self.limit = limit
        self._restorers = dict(restorers or {})
        self._loading = threading.Lock()
        self._jobs = threading.Condition()
        self._running = 0
        self._closed = False
        self._read = functools.lru_cache(_KEPT)(functools.partial(_read_named, limit=limit))
        self._visible = functools.lru_cache(_KEPT)(self._find_visible)
        self._reduced = functools.lru_cache(_KEPT)(self._reduce)
        self._estimated = functools.lru_cache(_KEPT)(self._estimate)

    def close(self) -> None:
        """Refuses new jobs, ends running ones at their next progress, and waits until none runs.

        Jobs are `whole`, `example` and all that runs in `job`. When this returns, none of them
        writes files any more. May be called again.
        """
        with self._jobs:
            self._closed = True
            self._jobs.wait_for(lambda: self._running == 0)

    @contextlib.contextmanager
    def job(self) -> Iterator[None]:
        """A context for work that writes files: `close` waits for its end.

        Raises:
          UserError: if the studio is closed.
        """
        with self._jobs:
            self._check_open()
            self._running += 1
        try:
            yield
        finally:
            with self._jobs:
                self._running -= 1
                self._jobs.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise UserError("The server is ending.")

    def _estimate(self, path: str, task: str) -> tuple[Level, str | None]:
        return resolve_level(get_task(task), AUTO, self.photograph(path).pixels, Path(path))

    def restorer(self, task: str) -> Restorer:
        """The restorer of a task."""
        get_task(task)
        with self._loading:
            if task not in self._restorers:
                self._restorers[task] = Restorer.from_pretrained(task)
            return self._restorers[task]

    def photograph(self, path: str | Path) -> Photograph:
        """A decoded file, marked as recently used; `UserError` if it cannot be decoded."""
        with contextlib.suppress(OSError):
            os.utime(path)
        return self._read(str(path))

    def starting_value(self, path: str | Path, task: str) -> tuple[float, str]:
        """The initial value of the slider, and a sentence on how it was found."""
        entry = get_task(task)
        try:
            level, how = self._estimated(str(path), task)
        except UserError:
            return starting_value(entry), ""
        if len(entry.space) == 1:
            what = f"{entry.space.single.quantity}: {float(level):.3g}"
            return as_shown(float(level)), f"Estimated {what} ({how})."
        return STRENGTH, f"Found {level.describe(digits=3)} ({how})."

    def found(self, path: str | Path | None, task: str) -> Level:
        """The estimated level, or the task's default without a photograph or an estimate."""
        space = self.restorer(task).space
        with contextlib.suppress(UserError):
            if path is not None:
                return space.parse(self._estimated(str(path), task)[0])
        return space.parse(TASKS[task].starting_level)

    def level(
        self, path: str | Path, task: str, value: float | None, given: Given = NOTHING
    ) -> Level:
        """The level for a position of the slider.

        Args:
          path: the photograph.
          task: name of the task.
          value: value of the slider: the level itself, or, if it has several parts, the strength
            relative to the parts. None is its initial value; others are limited to its range.
          given: may hold parts that replace the estimated ones.

        Raises:
          UserError: for values that are not numbers.
        """
        found = self.found(path, task)
        if len(found.space) == 1:
            return _chosen((value,), found)
        level = found if given.parts is None else _chosen(given.parts, found)
        strength = STRENGTH if value is None else real_number(value, "strength")
        return found.space.scaled(level, min(max(strength, 0.0), STRONGEST))

    def part(
        self, path: str | Path, task: str, value: float, centre: tuple[float, float], side: int
    ) -> Part:
        """The window of the result around a point.

        Args:
          path: the photograph.
          task: name of the task.
          value: value of the slider, needed if it is a scale factor.
          centre: (down, across), each from 0 to 1.
          side: side of the window, in pixels of the result.
        """
        size = self._result_size(path, task, self.level(path, task, value))
        parts = []
        for length, at in zip(size, centre, strict=True):
            taken = min(side, length)
            start = min(max(0, round(at * length - taken / 2)), length - taken)
            parts.append(slice(start, start + taken))
        return parts[0], parts[1]

    def compare(
        self,
        path: str | Path,
        task: str,
        value: float,
        part: Part,
        given: Given = NOTHING,
    ) -> tuple[np.ndarray, np.ndarray]:
        """A window before and after, uint8 (h, w, 3), in sRGB and on white.

        Before the conversion to sRGB, the pixels equal those of the whole result, or differ by at
        most a grey level near the edge.

        Args:
          path, task, value: as in `level`.
          part: the window, from `part`.
          given: mask and parts of the level.
        """
        photograph, level = self.photograph(path), self.level(path, task, value, given)
        pixels, alpha, mask = self._visible(str(path)), photograph.alpha, given.mask
        restorer, factor = self.restorer(task), get_task(task).factor(level)
        before = before_pixels(get_task(task), pixels, level, part)
        if alpha is not None and factor is not None:
            size = self._result_size(path, task, level)
            alpha = enlarged_alpha(alpha, size, factor, part)
        elif alpha is not None:
            alpha = alpha[part]
        if mask is None or factor is not None:
            after = restorer.restore(pixels, level=level, window=part, margin=_MARGIN)
        else:
            size = pixels.shape[:2]
            around = tuple(
                slice(max(0, each.start - _AROUND) // _AROUND * _AROUND, each.stop + _AROUND)
                for each in part
            )
            seen = pixels[around]
            there = mask_of_size(mask, size, (around[0].start, around[1].start), seen.shape[:2])
            rows, columns = (
                slice(own.start - whole.start, own.stop - whole.start)
                for own, whole in zip(part, around, strict=True)
            )
            levels = level_map(level, there)
            after = restorer.restore(
                seen,
                level=levels,
                blend=blend_of_mask(there),
                window=(rows, columns),
                margin=_MARGIN,
            )
        return _as_seen(before, alpha, photograph), _as_seen(after, alpha, photograph)

    def overview(self, path: str | Path, task: str, value: float, part: Part) -> np.ndarray:
        """The whole photograph, small, with a frame around the window; uint8 (h, w, 3)."""
        picture = Image.fromarray(self.small(path))
        height, width = self._result_size(path, task, self.level(path, task, value))
        down, across = picture.height / height, picture.width / width
        left, top = part[1].start * across, part[0].start * down
        right, bottom = part[1].stop * across - 1, part[0].stop * down - 1
        draw = ImageDraw.Draw(picture)
        for inset, colour in ((0, "black"), (1, "white"), (2, "white"), (3, "black")):
            box = (left + inset, top + inset, right - inset, bottom - inset)
            if box[0] < box[2] and box[1] < box[3]:
                draw.rectangle(box, outline=colour)
        return np.asarray(picture)

    def small(self, path: str | Path) -> np.ndarray:
        """The whole photograph in sRGB, at most `OVERVIEW_SIDE` wide and high; uint8 (h, w, 3)."""
        self.photograph(path)  # its file is in use
        return self._reduced(str(path))

    def _reduce(self, path: str) -> np.ndarray:
        photograph = self.photograph(path)
        pixels = shown(photograph.pixels, photograph.alpha)
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        picture.thumbnail((OVERVIEW_SIDE, OVERVIEW_SIDE), Image.Resampling.BOX)
        small = np.asarray(picture)
        return _as_seen(small[..., None] if small.ndim == 2 else small, None, photograph)

    def _find_visible(self, path: str) -> np.ndarray:
        photograph = self.photograph(path)
        return visible_everywhere(photograph.pixels, photograph.alpha)

    def whole(
        self,
        path: str | Path,
        task: str,
        value: float,
        folder: Path,
        *,
        given: Given = NOTHING,
        progress: Progress | None = None,
    ) -> Whole:
        """Restores the whole photograph to a PNG file in a new subfolder of `folder`.

        Args:
          path, task, value, given: as in `compare`.
          folder: made if it is missing.
          progress: as in `Restorer.restore`.

        Raises:
          UserError: also if the studio is closed, before or meanwhile; nothing is written then.
        """
        with self.job():
            return self._whole(path, task, value, folder, given, progress)

    def _whole(
        self,
        path: str | Path,
        task: str,
        value: float,
        folder: Path,
        given: Given,
        progress: Progress | None,
    ) -> Whole:
        def report(done: int, of: int) -> None:
            if progress is not None:
                progress(done, of)
            self._check_open()

        level, mask = self.level(path, task, value, given), given.mask
        self._result_size(path, task, level)
        photograph = self.photograph(path)
        size = photograph.pixels.shape[:2]
        if mask is not None:
            mask = None if get_task(task).enlarges else mask_of_size(mask, size, (0, 0), size)
        restored = restore_photograph(
            self.restorer(task), photograph, level=level, mask=mask, progress=report
        )
        content, notes = Encoding().encode(restored, "PNG")
        target = folder / uuid.uuid4().hex / f"{Path(path).stem}-restored.png"
        target.parent.mkdir(parents=True)
        write_atomically(target, content)
        return Whole(target, level, (*restored.notes, *notes))

    def _result_size(self, path: str | Path, task: str, level: Level) -> tuple[int, int]:
        size = self.photograph(path).pixels.shape[:2]
        height, width = self.restorer(task).restored_size(size, level)
        if height * width > 1e6 * self.limit:
            raise UserError(
                f"Enlarged by {level}, the photograph would have {width}x{height} pixels, more "
                f"than {self.limit:g} megapixels; choose a smaller factor."
            )
        return height, width

    def example(self, folder: Path, task: str) -> Path:
        """A degraded example photograph: scikit-image's *coffee* (Rachel Michetti, CC0).

        Args:
          folder: for the file; made if it is missing.
          task: name of the task.

        Raises:
          UserError: for an unknown task, or if the studio is closed.
        """
        with self.job():
            return self._example(folder, task)

    def _example(self, folder: Path, task: str) -> Path:
        import jax
        import skimage.data

        clean, entry = skimage.data.coffee(), get_task(task)
        path = folder / f"coffee-{task}.png"
        if not path.exists():
            degraded = _degraded(
                entry, jax.random.key(0), clean, entry.space.parse(entry.starting_level)
            )
            # Two visitors may request it at once, and each must get a complete file.
            stream = io.BytesIO()
            Image.fromarray(degraded).save(stream, "PNG")
            # Made last, because old empty folders are swept away.
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, stream.getvalue(), overwrite=True)
        return path


def as_shown(value: float) -> float:
    """A value as the sliders show it, with two decimals."""
    return round(value, 2)


def _chosen(values: tuple[float | None, ...], found: Level) -> Level:
    """The level of the sliders' values, each limited to its range.

    One without a value, or where it was found, is exactly at the found level.
    """
    taken = []
    for axis, value, own in zip(found.space.axes, values, found.values, strict=True):
        if value is None or value == as_shown(own):
            taken.append(own)
        else:
            taken.append(axis.limited(real_number(value, axis.quantity)))
    return found.space.parse(dict(zip(found.space.names, taken, strict=True)))


def starting_value(task: Task) -> float:
    """The initial value of the slider for a photograph without an estimate."""
    return STRENGTH if len(task.space) > 1 else float(task.space.parse(task.starting_level))


def _degraded(task: Task, key, clean: np.ndarray, level: Level) -> np.ndarray:
    factor = task.factor(level)
    if factor is not None:
        return bicubic_reduce(clean, factor).astype(np.uint8)
    _, protocol = task.protocol(None)
    return np.asarray(protocol.degradation(key, clean, level.named)).astype(np.uint8)


def _as_seen(pixels: np.ndarray, alpha: np.ndarray | None, photograph: Photograph) -> np.ndarray:
    """Pixels of a photograph as a browser shows its file, on white; uint8 (h, w, 3) in sRGB."""
    pixels = shown(pixels, alpha)
    grey = pixels.shape[-1] == 1
    profile = photograph.metadata.profile_as_shown(grey=grey)
    if profile is not None:
        picture = Image.fromarray(pixels[..., 0] if grey else pixels)
        converted = in_srgb(picture, io.BytesIO(profile))
        if converted is not None:
            return np.asarray(converted)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _read_named(path: str, *, limit: float) -> Photograph:
    return read_photograph(path, limit=limit)
