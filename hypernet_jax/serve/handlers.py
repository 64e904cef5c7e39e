"""What the page does at each event, as gradio calls it."""

import contextlib
import dataclasses
import hashlib
import io
import threading
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from hypernet_jax.errors import UserError
from hypernet_jax.files import write_atomically
from hypernet_jax.serve.sliders import axis_slider, level_slider
from hypernet_jax.serve.studio import (
    NOTHING,
    OVERVIEW_SIDE,
    Given,
    Studio,
    as_shown,
    starting_value,
)
from hypernet_jax.tasks import TASKS

__all__ = ["ONLY", "PAINT", "SPARED", "ZOOMS", "Handlers"]

# Sides of the window in pixels of the result. For the shipped networks the larger one fits
# a tile of 384 pixels, which takes a fifth of a second on two cores.
ZOOMS = {"x2": 300, "x4": 150}

ONLY, SPARED = "Restore only what is painted", "Spare what is painted"
# Colour and opacity of the brush.
PAINT = ("rgb(230, 40, 60)", 0.5)
# The softest edge of a mask, as a share of its longer side.
_SOFTEST = 0.1


class Handlers:
    """Event handlers of the page; every mistake becomes a sentence in its message line.

    The last inputs are the sliders of all parts, so that what they show is what is restored.
    """

    def __init__(self, studio: Studio, folder: Path, most_parts: int):
        self.studio = studio
        self.folder = folder
        self.most_parts = most_parts
        # By visitor, for the restoration of a whole photograph that runs.
        self._stopped: dict[str | None, threading.Event] = {}

    def view(self, path, task, level, zoom, centre, given=NOTHING, *parts) -> tuple[Any, Any, str]:
        """Returns (before and after, overview, message)."""
        if path is None:
            return None, None, "Drop a photograph, or take the example."
        try:
            given = _with_parts(given, task, parts)
            part = self.studio.part(path, task, level, tuple(centre), ZOOMS[zoom])
            pair = self.studio.compare(path, task, level, part, given)
            with self.studio.job():
                files = tuple(_file_of(pixels, self.folder / "views") for pixels in pair)
            return files, self.studio.overview(path, task, level, part), ""
        except UserError as error:
            return None, None, _sentence(error, path)

    def changed(self, path, task, level, zoom, centre, given=NOTHING, *parts):
        """Handles a moved slider; returns (before and after, message, no download)."""
        pair, _, message = self.view(path, task, level, zoom, centre, given, *parts)
        return pair, message, _no_file()

    def painted(
        self, path, task, level, zoom, centre, given, drawing, kind, softness, *parts
    ) -> tuple[Any, ...]:
        """Handles a brush stroke; returns (given, mask file) and what `changed` returns."""
        mask = _mask_of(drawing, kind, softness)
        saved = gr.DownloadButton(interactive=False)
        if mask is not None and path is not None:
            name = f"{Path(path).stem}-mask.png"
            folder = (
                self.folder / "masks" / hashlib.blake2b(mask.tobytes(), digest_size=8).hexdigest()
            )
            # A closed studio is reported by the view.
            with contextlib.suppress(UserError), self.studio.job():
                file = Path(_file_of(np.round(255 * mask).astype(np.uint8), folder, name))
                saved = gr.DownloadButton(value=file, interactive=True)
        given = dataclasses.replace(given, mask=mask)
        return given, saved, *self.changed(path, task, level, zoom, centre, given, *parts)

    def canvas(self, path):
        """The canvas to paint on: a small version of the photograph."""
        try:
            background = None if path is None else self.studio.small(path)
        except UserError:
            background = None
        drawing: dict[str, Any] = {"background": background, "layers": [], "composite": background}
        return drawing if background is not None else None

    def opened(self, path, task, zoom, given, request: gr.Request):
        """Handles a new photograph or task; returns all outputs, without a download."""
        self.stop(request)
        # A mask belongs to a photograph.
        given = Given(mask=given.mask if given.path == path else None, path=path)
        level, found, message = starting_value(TASKS[task]), "", ""
        pair = overview = None
        parts_of = None
        try:
            if path is not None:
                level, found = self.studio.starting_value(path, task)
                parts_of = path
            pair, overview, message = self.view(path, task, level, zoom, (0.5, 0.5), given)
        except UserError as error:
            message = _sentence(error, path)
        region = gr.Accordion(visible=not TASKS[task].enlarges)
        answers = (
            (0.5, 0.5),
            pair,
            overview,
            found,
            message,
            _no_file(),
            gr.Button(interactive=False),
        )
        return level_slider(task, level), *answers, given, region, *self._parts(parts_of, task)

    def _parts(self, path, task) -> list[Any]:
        """The group of sliders for parts and the sliders, hidden if the level is one number."""
        space = TASKS[task].space
        sliders: list[Any] = [gr.Slider(visible=False)] * self.most_parts
        if len(space) > 1:
            level = self.studio.found(path, task)
            for index, (axis, value) in enumerate(zip(space.axes, level.values, strict=True)):
                sliders[index] = axis_slider(axis, as_shown(value), visible=True)
        return [gr.Accordion(visible=len(space) > 1), *sliders] if sliders else []

    def moved(self, path, task, level, zoom, given, event: gr.SelectData, *parts):
        """Moves the window to the clicked position of the overview."""
        try:
            height, width = _overview_size(self.studio.photograph(path).pixels.shape[:2])
        except UserError as error:
            return (0.5, 0.5), None, None, _sentence(error, path)
        across, down = event.index
        centre = (min(max(down / height, 0.0), 1.0), min(max(across / width, 0.0), 1.0))
        return centre, *self.view(path, task, level, zoom, centre, given, *parts)

    def whole(
        self,
        path,
        task,
        level,
        drawing,
        kind,
        softness,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008
        *parts,
    ):
        """Restores the whole photograph to a PNG file; returns (download, message)."""
        if path is None:
            return _no_file(), "Drop a photograph first."
        stopped = self._stopped[request.session_hash] = threading.Event()

        def report(done: int, of: int) -> None:
            if stopped.is_set():
                raise UserError("Stopped; nothing is kept.")
            progress((done, of), unit="pixels")

        try:
            # Of the brush as it is now: the last stroke may not have been answered yet.
            given = _with_parts(Given(mask=_mask_of(drawing, kind, softness)), task, parts)
            restored = self.studio.whole(
                path, task, level, self.folder, given=given, progress=report
            )
        except UserError as error:
            return _no_file(), _sentence(error, path)
        finally:
            self._stopped.pop(request.session_hash, None)
        file = restored.file
        button = gr.DownloadButton(f"Download {file.name}", value=file, interactive=True)
        sentences = [f"Restored at {restored.level.describe(digits=3)}.", *restored.notes]
        return button, "  \n".join(sentences)

    def stop(self, request: gr.Request) -> None:
        """Ends the restoration of a visitor's whole photograph, if one runs."""
        running = self._stopped.get(request.session_hash)
        if running is not None:
            running.set()

    def example(self, task):
        """The example's file."""
        try:
            return str(self.studio.example(self.folder / "examples", task))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None


def _with_parts(given: Given, task: str, parts: tuple[Any, ...]) -> Given:
    """With the values of the sliders that the task has."""
    used = parts[: len(TASKS[task].space)] if len(TASKS[task].space) > 1 else ()
    return dataclasses.replace(given, parts=used or None)


def _mask_of(drawing: Any, kind: str, softness: float | None) -> np.ndarray | None:
    """The painted mask, (H, W) in [0, 1], the share of the level; None before the first stroke."""
    layers = [] if drawing is None else [layer for layer in drawing["layers"] if layer is not None]
    opacity = [np.asarray(layer)[..., 3].astype(np.float32) / 255 for layer in layers]
    if not opacity or not max(float(each.max()) for each in opacity):
        return None
    # Paint is half transparent, to show the photograph below, and has 8 bits.
    mask = np.clip(np.max(opacity, axis=0) / (PAINT[1] - 1 / 255), 0.0, 1.0)
    softness = min(max(softness or 0.0, 0.0), 1.0)
    if softness:
        mask = gaussian_filter(mask, softness * _SOFTEST * max(mask.shape) / 2, truncate=2.0)
    return mask if kind == ONLY else 1.0 - mask


def _file_of(pixels: np.ndarray, folder: Path, name: str | None = None) -> str:
    """A PNG file of the pixels, named by their hash, so that equal pixels are written once."""
    if name is None:
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest()
        name = f"{digest}-{pixels.shape[1]}x{pixels.shape[0]}.png"
    path = folder / name
    if path.exists():
        path.touch()
    else:
        content = io.BytesIO()
        # Viewed once, mostly on this machine, so speed matters more than size.
        Image.fromarray(pixels).save(content, "PNG", compress_level=1)
        # Made last, because old empty folders are swept away.
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue(), overwrite=True, lasting=False)
    return str(path)


def _overview_size(size: tuple[int, int]) -> tuple[int, int]:
    shrink = max(1.0, max(size) / OVERVIEW_SIDE)
    return round(size[0] / shrink), round(size[1] / shrink)


def _sentence(error: UserError, path: str) -> str:
    """The sentence for the message line, with the file's name instead of its path."""
    return f"**{str(error).replace(str(path), Path(path).name)}**"


def _no_file() -> gr.DownloadButton:
    return gr.DownloadButton("Nothing restored yet", value=None, interactive=False)
