"""`hypernet-jax demo`: runs every shipped task on real photographs; prints PSNR, writes images."""

from collections.abc import Mapping

import numpy as np
import skimage.data

from hypernet_jax.evaluation.measure import measure, noise_key, restore_degraded
from hypernet_jax.files import check_output, ensure_folder, write_atomically
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.photographs.sheets import contact_sheet, level_text
from hypernet_jax.tasks import TASKS
from hypernet_jax.weights import shipped_tasks

__all__ = ["demo"]

# Photographs from scikit-image and the top left corner of each crop. The shipped weights
# were not trained on them. All crops have one size, so there is one compilation.
_PHOTOGRAPHS = {"coffee": (56, 156), "chelsea": (6, 81), "astronaut": (0, 80)}
_SIDE = 288


def _photograph(name: str) -> np.ndarray:
    top, left = _PHOTOGRAPHS[name]
    image = getattr(skimage.data, name)()
    return image[top : top + _SIDE, left : left + _SIDE]


def demo(output: str, chosen: Mapping[str, str], *, overwrite: bool) -> int:
    """Prints input and restored PSNR per task and level, and writes one picture per task.

    Args:
      output: folder for the pictures.
      chosen: levels by task; if there is none, all tasks at their default levels.
      overwrite: replace existing pictures.
    """
    plan = {}
    for name in shipped_tasks():
        space = TASKS[name].space
        if name in chosen:
            plan[name] = space.parse_list(chosen[name])
        elif not chosen:
            plan[name] = [space.parse(level) for level in TASKS[name].demo_levels]
    folder = ensure_folder(output)
    for name in plan:
        check_output(folder / f"{name}.png", overwrite=overwrite)
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
                degraded = np.asarray(protocol.degradation(key, clean, level.named))
                degraded = degraded.astype(np.uint8)
                # The degraded picture already has its full size, even if the task enlarges.
                restored = restore_degraded(restorer, degraded, level).astype(np.uint8)
                before = measure(degraded, clean, protocol, level)["psnr"]
                after = measure(restored, clean, protocol, level)["psnr"]
                figures.append((before, after))
                if photograph == shown:
                    text = level_text(task, level)
                    rows.append(
                        [
                            (clean, "original"),
                            (degraded, f"{text}: {before:.2f} dB"),
                            (restored, f"restored at {text}: {after:.2f} dB"),
                        ]
                    )
            before, after = np.mean(figures, axis=0)
            print(
                f"{name:<10}{level_text(task, level):<18}"
                f"{before:>10.2f}{after:>13.2f}{after - before:>+9.2f}"
            )
        path = folder / f"{name}.png"
        write_atomically(path, contact_sheet(rows), overwrite=overwrite)
        print(f"wrote {path}")
    return 0
