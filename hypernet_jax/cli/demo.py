"""`hypernet-jax demo`: every shipped task on real photographs, in figures and pictures."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw, ImageFont

from hypernet_jax.evaluation.measure import measure, noise_key
from hypernet_jax.files import ensure_folder, write_atomically
from hypernet_jax.restoration.restorer import Restorer
from hypernet_jax.tasks import TASKS, Task
from hypernet_jax.weights import shipped_tasks

__all__ = ["demo"]

# Photographs of scikit-image and the corner of what is shown; the shipped weights
# were not trained on them. One size, so one compilation.
_PHOTOGRAPHS = {"coffee": (56, 156), "chelsea": (6, 81), "astronaut": (0, 80)}
_SIDE = 288


def _photograph(name: str) -> np.ndarray:
    top, left = _PHOTOGRAPHS[name]
    image = getattr(skimage.data, name)()
    return image[top : top + _SIDE, left : left + _SIDE]


def _level_text(task: Task, level: float) -> str:
    return f"x{level:g}" if task.enlarges else f"{task.scale.quantity} {level:g}"


def _sheet(rows: list[list[tuple[np.ndarray, str]]]) -> bytes:
    """Captioned pictures in rows, as a PNG file."""
    caption, gap = 22, 4
    width = len(rows[0]) * (_SIDE + gap) - gap
    sheet = Image.new("RGB", (width, len(rows) * (_SIDE + caption + gap) - gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, row in enumerate(rows):
        for j, (image, text) in enumerate(row):
            left, top = j * (_SIDE + gap), i * (_SIDE + caption + gap)
            draw.text((left + 2, top + 3), text, fill="black", font=font)
            sheet.paste(Image.fromarray(image), (left, top + caption))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def demo(output: str, chosen: Mapping[str, Sequence[str]]) -> int:
    """Prints input and restored PSNR per task and level, and writes one picture per task.

    Args:
      output: folder for the pictures; those of an earlier run are replaced.
      chosen: levels by task, for tasks that shall not show their default ones.
    """
    plan = {
        name: [
            TASKS[name].scale.valid(level) for level in chosen.get(name) or TASKS[name].demo_levels
        ]
        for name in shipped_tasks()
    }
    folder = ensure_folder(output)
    print("PSNR, mean of", ", ".join(_PHOTOGRAPHS))
    print(f"{'task':<10}{'level':<18}{'input dB':>10}{'restored dB':>13}{'gain dB':>9}")
    for name, levels in plan.items():
        task = TASKS[name]
        _, protocol = task.protocol(None)
        restorer = Restorer.from_pretrained(name)
        rows = []
        for row, level in enumerate(levels):
            shown = list(_PHOTOGRAPHS)[row % len(_PHOTOGRAPHS)]
            figures = []
            for photograph in _PHOTOGRAPHS:
                clean = _photograph(photograph)
                key = noise_key(0, photograph)
                degraded = np.asarray(protocol.degrade(key, clean, level)).astype(np.uint8)
                # The degraded picture has its full size already, also where the task enlarges.
                restored = restorer.apply(degraded[None] / 255.0, level=level)[0]
                restored = np.clip(np.round(255.0 * restored), 0, 255).astype(np.uint8)
                before = measure(degraded, clean, protocol, level)["psnr"]
                after = measure(restored, clean, protocol, level)["psnr"]
                figures.append((before, after))
                if photograph == shown:
                    text = _level_text(task, level)
                    rows.append(
                        [
                            (clean, "original"),
                            (degraded, f"{text}: {before:.2f} dB"),
                            (restored, f"restored at {text}: {after:.2f} dB"),
                        ]
                    )
            before, after = np.mean(figures, axis=0)
            print(
                f"{name:<10}{_level_text(task, level):<18}"
                f"{before:>10.2f}{after:>13.2f}{after - before:>+9.2f}"
            )
        path = Path(folder) / f"{name}.png"
        write_atomically(path, _sheet(rows), overwrite=True)
        print(f"wrote {path}")
    return 0
