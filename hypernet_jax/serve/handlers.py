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

from hypernet_jax.errors import UserError, real_number
from hypernet_jax.files import write_atomically
from hypernet_jax.serve.brush import mask_of
from hypernet_jax.serve.sliders import axis_slider, level_slider
from hypernet_jax.serve.studio import (
    NOTHING,
    Given,
    Studio,
    as_shown,
    starting_value,
)
from hypernet_jax.tasks import TASKS

__all__ = ["MIDDLE", "ZOOMS", "Handlers"]

# Sides of the window in pixels of the result. For the shipped networks the larger one fits
# a tile of 384 pixels, which takes a fifth of a second on two cores.
ZOOMS = {"x2": 300, "x4": 150}

# Where the window is at first, down and across, in percent of the photograph.
MIDDLE = (50.0, 50.0)

_NO_PHOTOGRAPH = "Drop a photograph, or take the example."
_STOPPED = "Stopped; nothing is kept."


class Handlers:
    """Event handlers of the page; every mistake becomes a sentence in its message line.

    The window's position is given in percent, down and across. The last inputs are the sliders of
    all parts, so that what they show is what is restored.
    """

    def __init__(self, studio: Studio, folder: Path, most_parts: int):
        self.studio = studio
        self.folder = folder
        self.most_parts = most_parts
        # By visitor, for the restoration of a whole photograph that runs, and for one that was
        # asked for and has not begun.
        self._stopped: dict[str | None, threading.Event] = {}
        self._asked: dict[str | None, threading.Event] = {}
        # Visitors who ended their last restoration, which gradio then counts as failed.
        self._ended: set[str | None] = set()

    def view(
        self, path, task, level, zoom, down, across, given=NOTHING, *parts
    ) -> tuple[Any, Any, str]:
        """Returns (before and after, overview, message)."""
        if path is None:
            return None, None, _NO_PHOTOGRAPH
        try:
            part = self._part(path, task, level, zoom, down, across)
            pair = self._pair(path, task, level, part, given, parts)
            return pair, self.studio.overview(path, task, level, part), ""
        except UserError as error:
            return None, None, _sentence(error, path)

    def _part(self, path, task, level, zoom, down, across):
        centre = (_share(down, "position down"), _share(across, "position across"))
        return self.studio.part(path, task, level, centre, ZOOMS[zoom])

    def _pair(self, path, task, level, part, given, parts) -> tuple[str, ...]:
        """Files of the window before and after."""
        pair = self.studio.compare(path, task, level, part, _with_parts(given, task, parts))
        with self.studio.job():
            return tuple(_file_of(pixels, self.folder / "views") for pixels in pair)

    def changed(
        self, path, task, level, zoom, down, across, given=NOTHING, *parts
    ) -> tuple[Any, ...]:
        """Handles a moved slider; returns (before and after, message, no download)."""
        pair, message = None, _NO_PHOTOGRAPH
        if path is not None:
            try:
                part = self._part(path, task, level, zoom, down, across)
                pair, message = self._pair(path, task, level, part, given, parts), ""
            except UserError as error:
                message = _sentence(error, path)
        return pair, message, _no_file()

    def painted(
        self,
        path,
        task,
        level,
        zoom,
        down,
        across,
        given,
        layers,
        kind,
        softness,
        *parts,
    ) -> tuple[Any, ...]:
        """Handles a brush stroke; returns (given, mask file) and what `changed` returns."""
        saved = gr.DownloadButton(interactive=False)
        try:
            mask = mask_of(layers, kind, softness)
        except UserError as error:
            return given, saved, None, f"**{error}**", _no_file()
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
        seen = (path, task, level, zoom, down, across, given)
        return given, saved, *self.changed(*seen, *parts)

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
            pair, overview, message = self.view(path, task, level, zoom, *MIDDLE, given)
        except UserError as error:
            message = _sentence(error, path)
        region = gr.Accordion(visible=not TASKS[task].enlarges)
        answers = (
            *MIDDLE,
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
        if path is None:
            return *MIDDLE, None, None, _NO_PHOTOGRAPH
        try:
            size = self.studio.small(path).shape[:2]
        except UserError as error:
            return *MIDDLE, None, None, _sentence(error, path)
        down, across = (
            round(100 * at / length, 1) for at, length in zip(event.index[::-1], size, strict=True)
        )
        return down, across, *self.view(path, task, level, zoom, down, across, given, *parts)

    def whole(
        self,
        path,
        task,
        level,
        layers,
        kind,
        softness,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008
        *parts,
    ):
        """Restores the whole photograph to a PNG file; returns (download, message)."""
        if path is None:
            return _no_file(), _NO_PHOTOGRAPH
        stopped = self._asked.pop(request.session_hash, None) or threading.Event()
        # One that was cancelled may still be running.
        before = self._stopped.get(request.session_hash)
        self._stopped[request.session_hash] = stopped
        if before is not None:
            before.set()

        def report(done: int, of: int) -> None:
            if stopped.is_set():
                raise UserError(_STOPPED)
            progress((done, of), unit="pixels")

        try:
            # Of the brush as it is now: the last stroke may not have been answered yet.
            given = _with_parts(Given(mask=mask_of(layers, kind, softness)), task, parts)
            restored = self.studio.whole(
                path, task, level, self.folder, given=given, progress=report
            )
        except UserError as error:
            return _no_file(), _sentence(error, path)
        finally:
            if self._stopped.get(request.session_hash) is stopped:
                del self._stopped[request.session_hash]
        file, level = restored.file, restored.level.describe(digits=3)
        # The sliders may have moved meanwhile.
        label = f"Download {file.name} ({level})"
        button = gr.DownloadButton(label, value=file, interactive=True)
        sentences = [f"Restored at {level}.", *restored.notes]
        return button, "  \n".join(sentences)

    def begun(self, request: gr.Request):
        """Handles the button to restore; returns (what to stop, message)."""
        self._ended.discard(request.session_hash)
        self._asked[request.session_hash] = threading.Event()
        return gr.Button(interactive=True), "Restoring…"

    def failed(self, request: gr.Request):
        """The message after a restoration that gave none, such as one that a full queue refused."""
        return gr.skip() if request.session_hash in self._ended else ""

    def left(self, request: gr.Request) -> None:
        """Handles a closed page."""
        self.stop(request)
        self._asked.pop(request.session_hash, None)
        self._ended.discard(request.session_hash)

    def stop(self, request: gr.Request) -> None:
        """Ends the restoration of a visitor's whole photograph, if one runs or is about to."""
        self._ended.add(request.session_hash)
        for events in (self._asked, self._stopped):
            if (event := events.get(request.session_hash)) is not None:
                event.set()

    def stopped(self, request: gr.Request):
        """Handles the button to stop; returns (download, message, nothing to stop)."""
        self.stop(request)
        return _no_file(), _STOPPED, gr.Button(interactive=False)

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


def _share(percent: float | None, name: str) -> float:
    """A position from 0 to 1; the middle while its box is empty."""
    number = MIDDLE[0] if percent is None else real_number(percent, name)
    return min(max(number / 100, 0.0), 1.0)


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


def _sentence(error: UserError, path: str) -> str:
    """The sentence for the message line, with the file's name instead of its path."""
    if not Path(path).exists():
        return "**The photograph is no longer on the server; drop it again.**"
    return f"**{str(error).replace(str(path), Path(path).name)}**"


def _no_file() -> gr.DownloadButton:
    return gr.DownloadButton("Nothing restored yet", value=None, interactive=False)
