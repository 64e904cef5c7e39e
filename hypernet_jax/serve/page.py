"""The page in gradio: its components, and which handler each event has."""

from pathlib import Path

import gradio as gr

from hypernet_jax.serve.brush import ONLY, PAINT, SPARED, Canvas
from hypernet_jax.serve.handlers import MIDDLE, ZOOMS, Handlers
from hypernet_jax.serve.sliders import UncheckedSlider, level_slider
from hypernet_jax.serve.studio import Given, Studio, starting_value
from hypernet_jax.tasks import DEFAULT_TASK, TASKS
from hypernet_jax.weights import shipped_tasks

__all__ = ["CSS", "make_page"]

_HERE = Path(__file__).parent
CSS = (_HERE / "page.css").read_text(encoding="utf-8")
_SCRIPT = (_HERE / "page.js").read_text(encoding="utf-8").partition("\n")[2]  # a function alone


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
    handlers = Handlers(studio, folder, most_parts)
    with gr.Blocks(title="hypernet_jax", analytics_enabled=False) as page:
        given = gr.State(Given())
        gr.Markdown("# Restore a photograph", elem_id="title")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                photograph = gr.File(label="Photograph", elem_id="photograph", height=130)
                example = gr.Button("Example photograph", elem_id="example", size="sm")
            with gr.Column(scale=3, min_width=320):
                task = gr.Radio(
                    [(TASKS[name].title, name) for name in names],
                    value=names[0],
                    label="Task",
                    elem_id="task",
                )
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                found = gr.Markdown(elem_id="found")
                level = UncheckedSlider(elem_id="level", buttons=[])
                details: list = []
                if most_parts:
                    with gr.Accordion("Details", open=False, elem_id="details") as group:
                        parts = [
                            UncheckedSlider(visible=False, elem_id=f"part-{n}", buttons=[])
                            for n in range(most_parts)
                        ]
                    details = [group, *parts]
                zoom = gr.Radio(list(ZOOMS), value="x2", label="Zoom", elem_id="zoom")
                overview = gr.Image(
                    label="Click where to look",
                    elem_id="overview",
                    interactive=False,
                    buttons=[],
                    format="png",
                )
                with gr.Accordion("Window position (by keyboard)", open=False, elem_id="position"):
                    down, across = (
                        UncheckedSlider(
                            0, 100, value=middle, step=0.1, label=f"{name} (%)",
                            elem_id=name.lower(), buttons=[],
                        )
                        for name, middle in zip(("Down", "Across"), MIDDLE, strict=True)
                    )  # fmt: skip
            with gr.Column(scale=3, min_width=320, elem_id="result"):
                divider = gr.ImageSlider(
                    label="Before | after",
                    elem_id="divider",
                    format="png",
                    interactive=False,
                    buttons=["fullscreen"],
                    max_height=700,
                )
        # Beside the buttons, whose work it reports.
        message = gr.Markdown("Drop a photograph, or take the example.", elem_id="message")
        with gr.Row():
            restore = gr.Button(
                "Restore the whole photograph", variant="primary", elem_id="restore"
            )
            stop = gr.Button("Stop", interactive=False, elem_id="stop")
            download = gr.DownloadButton(
                "Nothing restored yet", interactive=False, elem_id="download"
            )
        with gr.Accordion("Strength by region", open=False, elem_id="region") as region:
            drawing = Canvas(
                label="Paint with the brush",
                elem_id="mask",
                sources=(),
                transforms=(),
                layers=False,
                buttons=[],
                brush=gr.Brush(
                    default_size=40, colors=[PAINT], default_color=PAINT,
                    color_mode="fixed",
                ),
                eraser=gr.Eraser(default_size=40),
                format="png",
            )  # fmt: skip
            kind = gr.Radio([ONLY, SPARED], value=ONLY, label="Brush", elem_id="kind")
            softness = UncheckedSlider(
                0.0, 1.0, value=0.2, step=0.05, label="Softness of the edge",
                elem_id="softness", buttons=[],
            )  # fmt: skip
            saved = gr.DownloadButton("Download mask", interactive=False, elem_id="save-mask")
        first = names[0]
        loaded = page.load(
            lambda: level_slider(first, starting_value(TASKS[first])),
            None,
            level,
            api_visibility="private",
        )
        page.load(None, js=_SCRIPT)
        everything = [level, down, across, divider, overview, found, message, download, stop]
        everything += [given, region, *details]
        parts = details[1:]
        seen = [photograph, task, level, zoom, down, across, given]
        # One after the other, so that the button to stop is not left enabled.
        begun = restore.click(handlers.begun, None, [stop, message], api_visibility="private")
        restored = begun.then(
            handlers.whole,
            [photograph, task, level, drawing, kind, softness, *parts],
            [download, message],
            concurrency_limit=1,
            api_name="restore",
        )
        restored.failure(handlers.failed, None, message, api_visibility="private")
        restored.then(lambda: gr.Button(interactive=False), None, stop, api_visibility="private")
        # Only the newest position of a slider is computed, not each one on the way.
        turned = [
            slider.input(
                handlers.changed,
                [*seen, *parts],
                [divider, message, download],
                trigger_mode="always_last",
                show_progress="hidden",
                api_visibility="public" if slider is level else "private",
                api_name="view" if slider is level else None,
            )
            for slider in (level, *parts)
        ]
        painted = gr.on(
            [drawing.input, kind.input, softness.input],
            handlers.painted,
            [*seen, drawing, kind, softness, *parts],
            [given, saved, divider, message, download],
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
        zoomed = gr.on(
            [zoom.input, down.input, across.input],
            handlers.view,
            [*seen, *parts],
            [divider, overview, message],
            trigger_mode="always_last",
            api_visibility="private",
        )
        moved = overview.select(
            handlers.moved,
            [photograph, task, level, zoom, given, *parts],
            [down, across, divider, overview, message],
            api_visibility="private",
        )
        # A single event, so that the newest answer comes last; and results for the old photograph
        # or task are cancelled, so that they do not appear with the new one.
        gr.on(
            [photograph.change, task.input],
            handlers.opened,
            [photograph, task, zoom, given],
            everything,
            trigger_mode="always_last",
            cancels=[loaded, *turned, painted, zoomed, moved, restored],
            api_name="open",
        )
        # Also while the restoration waits for that of another visitor.
        stop.click(
            handlers.stopped,
            None,
            [download, message, stop],
            cancels=restored,
            api_visibility="private",
        )
        page.unload(handlers.left)
        example.click(handlers.example, task, photograph, api_visibility="private")
    return page
