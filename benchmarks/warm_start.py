"""Compares a warm start from a plain network with training from scratch: PSNR over steps.

    python benchmarks/warm_start.py --output FOLDER [--dataset DATASET] [--steps 500]

Trains, with the real loop, a plain network at sigma 25, and then adaptive networks of the same
shape: from scratch, for the same number of steps and for twice as many (the total of plain
network and warm start); warm-started with z = 0 at sigma 25, everything or only the slopes; and
only the slopes with z = 0 at sigma 0, where the frozen base does not fit. Writes warm_start.png
and warm_start.json; last line: JSON with the final PSNR.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from hypernet_jax.checkpoints import load_ema
from hypernet_jax.evaluation.drawing import png_of
from hypernet_jax.files import check_output, ensure_folder, write_atomically
from hypernet_jax.model import model_config
from hypernet_jax.training.loop import train
from hypernet_jax.training.recipes import recipe
from hypernet_jax.weights import save_weights

LEVELS = (5.0, 15.0, 25.0, 50.0, 75.0)
PLAIN_LEVEL = 25.0


def run_config(steps: int, dataset: str):
    """The compact network at half its depth, trained with Adam, all levels on the same crops."""
    config = recipe("compact")
    config.task = "denoise"
    config.steps = steps
    config.levels.low, config.levels.high = 0.0, 100.0
    config.levels.normalisation = "per_hundred"
    config.network.blocks = 4
    config.data.update({"dataset": dataset, "crop_size": 48, "crops": 4, "grey": 0.0})
    config.levels.own_crops = False
    config.levels.weighting = "equal"
    config.optimizer.update({"name": "adam", "learning_rate": 2e-3, "warmup_steps": 50})
    config.validation.update({"every": max(1, steps // 16), "levels": LEVELS})
    config.checkpoint.every = steps
    return config


def plain_config(steps: int, dataset: str):
    """The plain network: one level, and the same number of images per step."""
    config = run_config(steps, dataset)
    config.features.name = "constant"
    config.levels.fixed = (PLAIN_LEVEL,)
    config.data.crops *= config.levels.count
    return config


def curve(config, workdir: Path) -> list[dict[str, float]]:
    """Trains and returns the validation figures by step."""
    start = time.perf_counter()
    if int(train(config, workdir).step) < config.steps:
        raise SystemExit("Stopped by a signal; nothing was written.")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    print(f"{workdir.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return [
        {name.removeprefix("validation/"): value for name, value in line.items()}
        for line in lines
        if "validation/psnr" in line
    ]


def draw(curves: dict[str, list[dict[str, float]]], plain: dict[str, float], path: Path) -> None:
    """Mean PSNR over steps, and the final PSNR by level beside that of training from scratch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (over_steps, by_level) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    scratch = curves["from scratch"][-1]
    for name, points in curves.items():
        steps = [point["step"] for point in points]
        over_steps.plot(steps, [point["psnr"] for point in points], ".-", label=name)
        gains = [points[-1][f"psnr_{level:g}"] - scratch[f"psnr_{level:g}"] for level in LEVELS]
        by_level.plot(LEVELS, gains, "o-", label=name)
    label = f"the plain network (sigma {PLAIN_LEVEL:g})"
    over_steps.axhline(plain["psnr"], color="grey", linestyle=":", label=label)
    shown = [point["psnr"] for points in curves.values() for point in points[1:]]
    over_steps.set_ylim(min([*shown, plain["psnr"]]) - 0.3, max(shown) + 0.3)
    levels = ", ".join(f"{level:g}" for level in LEVELS)
    over_steps.set(xlabel="training step", ylabel=f"PSNR in dB, mean of sigma {levels}")
    by_level.set(xlabel="noise sigma", ylabel="final PSNR minus that from scratch, dB")
    over_steps.legend()
    for axes in (over_steps, by_level):
        axes.grid(alpha=0.3)
    write_atomically(path, png_of(figure), overwrite=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default=".", help="folder for warm_start.png and .json")
    parser.add_argument("--dataset", default="", help="made by `hypernet-jax prepare`")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--overwrite", action="store_true", help="replace both files")
    args = parser.parse_args()
    folder = ensure_folder(args.output)
    for name in ("warm_start.json", "warm_start.png"):
        check_output(folder / name, overwrite=args.overwrite)

    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        plain_curve = curve(plain_config(args.steps, args.dataset), work / "plain")
        config, theta = load_ema(work / "plain")
        weights = work / "plain.safetensors"
        save_weights(weights, theta, model_config(config))

        def adaptive(name: str, *, factor: int = 1, **changes) -> list[dict[str, float]]:
            run = run_config(factor * args.steps, args.dataset)
            run.update(changes)
            return curve(run, work / name)

        warm = {"initial_weights": str(weights)}
        # With z = 0 at its own level, the plain network is unchanged there.
        centred = {"levels": {"origin": PLAIN_LEVEL}}
        curves = {
            "from scratch": adaptive("scratch"),
            "from scratch, twice the steps": adaptive("scratch_twice", factor=2),
            "warm start, everything": adaptive("everything", **warm, **centred),
            "warm start, slopes alone": adaptive("slopes", **warm, **centred, frozen="^base/"),
            "warm start, slopes alone, z = sigma / 100": adaptive(
                "slopes_uncentred", **warm, frozen="^base/"
            ),
        }
    figures = {"steps": args.steps, "plain": plain_curve[-1], "curves": curves}
    write_atomically(
        folder / "warm_start.json", json.dumps(figures, indent=1).encode(), overwrite=True
    )
    draw(curves, plain_curve[-1], folder / "warm_start.png")
    print(json.dumps({name: points[-1] for name, points in curves.items()}))


if __name__ == "__main__":
    main()
