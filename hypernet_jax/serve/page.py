"""The page in gradio: its components and event handlers."""

import contextlib
import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from hypernet_jax.errors import UserError
from hypernet_jax.files import write_atomically
from hypernet_jax.levels import STRONGEST, LevelAxis
from hypernet_jax.serve.studio import NOTHING, OVERVIEW_SIDE, Given, Studio, starting_value
from hypernet_jax.tasks import DEFAULT_TASK, TASKS
from hypernet_jax.weights import shipped_tasks

__all__ = ["CSS", "make_page"]

# Sides of the window in pixels of the result. For the shipped networks the larger one fits
# a tile of 384 pixels, which takes a fifth of a second on two cores.
_ZOOMS = {"x2": 300, "x4": 150}

_ONLY, _SPARED = "Restore only what is painted", "Spare what is painted"
# Colour and opacity of the brush.
_PAINT = ("rgb(230, 40, 60)", 0.5)
# The softest edge of a mask, as a share of its longer side.
_SOFTEST = 0.1

CSS = """
#divider img { width: 100%; image-rendering: pixelated; }
#overview img { cursor: crosshair; }
#mask .image-container { min-height: 300px; }
footer { display: none !important; }
"""


def _level_slider(task: str, value: float, **options: Any) -> gr.Slider:
    space = TASKS[task].space
    if len(space) > 1:
        return gr.Slider(0.0, STRONGEST, value=value, step=0.05, label="Strength", **options)
    return _axis_slider(space.single, value, **options)


def _axis_slider(axis: LevelAxis, value: float, **options: Any) -> gr.Slider:
    unit = f" ({axis.unit})" if axis.unit else ""
    return gr.Slider(
        axis.low,
        axis.high,
        value=value,
        step=axis.step,
        label=f"{axis.quantity[:1].upper()}{axis.quantity[1:]}{unit}",
        **options,
    )


class _Handlers:
    """Event handlers of the page; every mistake becomes a sentence in its message line."""

    def __init__(self, studio: Studio, folder: Path, most_parts: int):
        self.studio = studio
        self.folder = folder
        self.most_parts = most_parts

    def view(self, path, task, level, zoom, centre, given=NOTHING) -> tuple[Any, Any, str]:
        """Returns (before and after, overview, message)."""
        if path is None:
            return None, None, "Drop a photograph, or take the example."
        try:
            part = self.studio.part(path, task, level, tuple(centre), _ZOOMS[zoom])
            pair = self.studio.compare(path, task, level, part, given)
            with self.studio.job():
                files = tuple(_file_of(pixels, self.folder / "views") for pixels in pair)
            return files, self.studio.overview(path, task, level, part), ""
        except UserError as error:
            return None, None, _sentence(error, path)

    def divider(self, path, task, level, zoom, centre, given=NOTHING):
        """Returns (before and after, message), which depend on the slider."""
        pair, _, message = self.view(path, task, level, zoom, centre, given)
        return pair, message

    def part_given(self, path, task, level, zoom, centre, given, *parts):
        """Handles a changed part; returns (given, before and after, message)."""
        given = dataclasses.replace(given, parts=parts[: len(TASKS[task].space)])
        return given, *self.divider(path, task, level, zoom, centre, given)

    def painted(self, path, task, level, zoom, centre, given, drawing, kind, softness):
        """Handles a brush stroke; returns (given, mask file, before and after, message)."""
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
        return given, saved, *self.divider(path, task, level, zoom, centre, given)

    def canvas(self, path):
        """The canvas to paint on: a small version of the photograph."""
        try:
            background = None if path is None else self.studio.small(path)
        except UserError:
            background = None
        drawing: dict[str, Any] = {"background": background, "layers": [], "composite": background}
        return drawing if background is not None else None

    def opened(self, path, task, zoom, given):
        """Handles a new photograph or task; returns all outputs, without a download."""
        # A mask belongs to a photograph; parts belong to a photograph and a task.
        mask = given.mask if given.path == path else None
        given = Given(mask=mask, path=path)
        level, how = starting_value(TASKS[task]), ""
        if path is not None:
            try:
                level, how = self.studio.starting_value(path, task)
            except UserError as error:
                slider = _level_slider(task, level)
                shown = None, None, _sentence(error, path), _no_file()
                return slider, (0.5, 0.5), *shown, given, *self._parts(None, task)
        pair, overview, message = self.view(path, task, level, zoom, (0.5, 0.5), given)
        shown = pair, overview, message or how, _no_file()
        return _level_slider(task, level), (0.5, 0.5), *shown, given, *self._parts(path, task)

    def _parts(self, path, task) -> list[Any]:
        """The group of sliders for parts and the sliders, hidden if the level is one number."""
        space = TASKS[task].space
        sliders: list[Any] = [gr.Slider(visible=False)] * self.most_parts
        if len(space) > 1:
            level = space.parse(TASKS[task].starting_level)
            level = level if path is None else self.studio.parts(path, task)
            for index, (axis, value) in enumerate(zip(space.axes, level.values, strict=True)):
                sliders[index] = _axis_slider(axis, round(value, 2), visible=True)
        return [gr.Accordion(visible=len(space) > 1), *sliders] if sliders else []

    def moved(self, path, task, level, zoom, given, event: gr.SelectData):
        """Moves the window to the clicked position of the overview."""
        try:
            height, width = _overview_size(self.studio.photograph(path).pixels.shape[:2])
        except UserError as error:
            return (0.5, 0.5), None, None, _sentence(error, path)
        across, down = event.index
        centre = (min(max(down / height, 0.0), 1.0), min(max(across / width, 0.0), 1.0))
        return centre, *self.view(path, task, level, zoom, centre, given)

    def whole(self, path, task, level, given=NOTHING, progress=gr.Progress()):  # noqa: B008
        """Restores the whole photograph to a PNG file."""
        if path is None:
            return _no_file(), "Drop a photograph first."
        try:
            target = self.studio.whole(
                path,
                task,
                level,
                self.folder,
                given=given,
                progress=lambda done, of: progress((done, of), unit="pixels"),
            )
        except UserError as error:
            return _no_file(), _sentence(error, path)
        photograph = gr.DownloadButton(f"Download {target.name}", value=target, interactive=True)
        what = "strength " if len(TASKS[task].space) > 1 else ""
        return photograph, f"Restored at {what}{level:g}."

    def example(self, task):
        """The example's file."""
        try:
            return str(self.studio.example(self.folder / "examples", task))
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from None


def _mask_of(drawing: Any, kind: str, softness: float) -> np.ndarray | None:
    """The painted mask, (H, W) in [0, 1], the share of the level; None before the first stroke."""
    layers = [] if drawing is None else [layer for layer in drawing["layers"] if layer is not None]
    opacity = [np.asarray(layer)[..., 3].astype(np.float32) / 255 for layer in layers]
    if not opacity or not max(float(each.max()) for each in opacity):
        return None
    # Paint is half transparent, to show the photograph below, and has 8 bits.
    mask = np.clip(np.max(opacity, axis=0) / (_PAINT[1] - 1 / 255), 0.0, 1.0)
    if softness:
        mask = gaussian_filter(mask, softness * _SOFTEST * max(mask.shape) / 2, truncate=2.0)
    return mask if kind == _ONLY else 1.0 - mask


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
        write_atomically(path, content.getvalue(), overwrite=True)
    return str(path)


def _overview_size(size: tuple[int, int]) -> tuple[int, int]:
    shrink = max(1.0, max(size) / OVERVIEW_SIDE)
    return round(size[0] / shrink), round(size[1] / shrink)


def _sentence(error: UserError, path: str) -> str:
    """The sentence for the message line, with the file's name instead of its path."""
    return f"**{str(error).replace(str(path), Path(path).name)}**"


def _no_file() -> gr.DownloadButton:
    return gr.DownloadButton("Nothing restored yet", value=None, interactive=False)


def _offered() -> list[str]:
    """Tasks with shipped weights, the default task first."""
    return sorted(shipped_tasks(), key=lambda name: name != DEFAULT_TASK)


def make_page(studio: Studio, folder: Path) -> gr.Blocks:
    """Builds the page.

    Args:
      studio: restores the photographs.
      folder: for results, until they are swept.
    """
    names = _offered()
    # Only levels with several parts have sliders for their parts.
    most_parts = max(
        (len(TASKS[name].space) for name in names if len(TASKS[name].space) > 1), default=0
    )
    handlers = _Handlers(studio, folder, most_parts)
    with gr.Blocks(title="hypernet_jax", analytics_enabled=False) as page:
        centre, given = gr.State((0.5, 0.5)), gr.State(Given())
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                photograph = gr.File(label="Photograph", elem_id="photograph", height=130)
                task = gr.Radio(
                    [(TASKS[name].title, name) for name in names],
                    value=names[0],
                    label="Task",
                    elem_id="task",
                )
                # Gradio rejects values outside the initial range, even if it is changed later.
                widest = [axis for name in names for axis in TASKS[name].space.axes]
                level = gr.Slider(
                    min(axis.low for axis in widest),
                    max(STRONGEST, *(axis.high for axis in widest)),
                    elem_id="level",
                )
                details = []
                if most_parts:
                    with gr.Accordion("Details", open=False, elem_id="details") as group:
                        parts = [
                            gr.Slider(visible=False, elem_id=f"part-{n}") for n in range(most_parts)
                        ]
                    details = [group, *parts]
                zoom = gr.Radio(list(_ZOOMS), value="x2", label="Zoom", elem_id="zoom")
                overview = gr.Image(
                    label="Click where to look",
                    elem_id="overview",
                    interactive=False,
                    buttons=[],
                    format="png",
                )
            with gr.Column(scale=3, min_width=480):
                divider = gr.ImageSlider(
                    label="Before | after",
                    elem_id="divider",
                    format="png",
                    interactive=False,
                    buttons=["fullscreen"],
                    max_height=700,
                )
                message = gr.Markdown("Drop a photograph, or take the example.", elem_id="message")
                with gr.Row():
                    example = gr.Button("Example photograph", elem_id="example")
                    restore = gr.Button(
                        "Restore the whole photograph", variant="primary", elem_id="restore"
                    )
                    download = gr.DownloadButton(
                        "Nothing restored yet", interactive=False, elem_id="download"
                    )
                with gr.Accordion("Strength by region", open=False, elem_id="region"):
                    drawing = gr.ImageEditor(
                        label="Paint with the brush",
                        elem_id="mask",
                        sources=(),
                        transforms=(),
                        layers=False,
                        buttons=[],
                        brush=gr.Brush(
                            default_size=40, colors=[_PAINT], default_color=_PAINT,
                            color_mode="fixed",
                        ),
                        eraser=gr.Eraser(default_size=40),
                        format="png",
                    )  # fmt: skip
                    kind = gr.Radio([_ONLY, _SPARED], value=_ONLY, label="Brush", elem_id="kind")
                    softness = gr.Slider(
                        0.0, 1.0, value=0.2, step=0.05, label="Softness of the edge",
                        elem_id="softness",
                    )  # fmt: skip
                    saved = gr.DownloadButton(
                        "Download mask", interactive=False, elem_id="save-mask"
                    )
        first = names[0]
        page.load(
            lambda: _level_slider(first, starting_value(TASKS[first])),
            None,
            level,
            api_visibility="private",
        )
        everything = [level, centre, divider, overview, message, download, given, *details]
        seen = [photograph, task, level, zoom, centre, given]
        for part in details[1:]:
            part.input(
                handlers.part_given,
                [*seen, *details[1:]],
                [given, divider, message],
                trigger_mode="always_last",
                show_progress="hidden",
                api_visibility="private",
            )
        gr.on(
            [drawing.input, kind.input, softness.input],
            handlers.painted,
            [*seen, drawing, kind, softness],
            [given, saved, divider, message],
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
        photograph.change(
            handlers.canvas,
            photograph,
            drawing,
            show_progress="hidden",
            api_visibility="private",
        )
        # Only the newest position of the slider is computed, not each one on the way.
        turned = level.input(
            handlers.divider,
            seen,
            [divider, message],
            trigger_mode="always_last",
            show_progress="hidden",
            api_name="view",
        )
        zoomed = zoom.input(
            handlers.view, seen, [divider, overview, message], api_visibility="private"
        )
        moved = overview.select(
            handlers.moved,
            [photograph, task, level, zoom, given],
            [centre, divider, overview, message],
            api_visibility="private",
        )
        restored = restore.click(
            handlers.whole,
            [photograph, task, level, given],
            [download, message],
            concurrency_limit=1,
            api_name="restore",
        )
        # A single event, so that the newest answer comes last; and results for the old photograph
        # or task are cancelled, so that they do not appear with the new one.
        gr.on(
            [photograph.change, task.input],
            handlers.opened,
            [photograph, task, zoom, given],
            everything,
            trigger_mode="always_last",
            cancels=[turned, zoomed, moved, restored],
            api_name="open",
        )
        example.click(handlers.example, task, photograph, api_visibility="private")
    return page
