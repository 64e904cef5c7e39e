"""Compares one network for mixtures of blur, noise and JPEG with a network for each mixture.

    python experiments/mixed.py CBSD68 --mixed runs/mixed --cells runs/cells --output mixed.png

The workdirs are those of configs/mixed.py:unet and configs/mixed.py:unet_cells, which may have
a smaller grid than the benchmark. The methods: the hypernetwork; deep network interpolation (DNI;
Wang et al., CVPR 2019) between the networks of the extreme mixtures; where one degradation is
alone, the shipped network for it. PSNR in RGB, 8 bits, seed 0. The plot shows the distances to the
networks for each mixture. A second table tells how linear these networks' parameters are along
each part of the level.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure

from hypernet_jax import Restorer, get_task
from hypernet_jax.checkpoints import load_ema
from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.errors import UserError
from hypernet_jax.evaluation.drawing import png_of
from hypernet_jax.evaluation.measure import degraded_pair, restore_degraded
from hypernet_jax.files import check_output, write_atomically
from hypernet_jax.hypernet import Theta
from hypernet_jax.images.folders import find_images, spread
from hypernet_jax.levels import Level
from hypernet_jax.markdown import table
from hypernet_jax.metrics import psnr
from hypernet_jax.model import Model, make_model, model_config

TASK = get_task("mixed")
SPACE = TASK.space
_CLEAN = SPACE.neutral
# The shipped network for each part of the level.
_ALONE = {"blur": "deblur", "noise": "denoise", "jpeg": "dejpeg"}


def mixtures(config: dict) -> list[Level]:
    """The levels of networks for each mixture.

    Raises:
      UserError: if they are no grid, all mixtures of some values of each part, the neutral ones
        among them.
    """
    levels = [SPACE.parse(level) for level in config["features"]["levels"]]
    grid = {SPACE.parse(values) for values in itertools.product(*lines(levels))}
    if set(levels) != grid or _CLEAN not in grid:
        raise UserError(
            f"The networks are for {len(levels)} mixtures, which are no grid; train them for all "
            "mixtures of some values of each part, the neutral ones among them."
        )
    return levels


def lines(levels: list[Level]) -> list[list[float]]:
    """The values of each part of a grid of levels, from the neutral one on."""

    def line(name: str) -> list[float]:
        return sorted({level[name] for level in levels}, key=lambda v: abs(v - _CLEAN[name]))

    return [line(name) for name in SPACE.names]


def interpolated(config: dict, theta: Theta) -> Restorer:
    """The networks of the extreme mixtures, interpolated, from networks for each mixture."""
    levels = mixtures(config)
    ends = [dict.fromkeys((line[0], line[-1])) for line in lines(levels)]
    corners = [SPACE.parse(corner) for corner in itertools.product(*ends)]
    rows = np.asarray([levels.index(corner) for corner in corners])
    features = config["features"] | {
        "name": "interpolated",
        "levels": [corner.named for corner in corners],
    }
    banks = {path: bank[rows] for path, bank in theta["generated"].items()}
    return Restorer(make_model(config | {"features": features}), theta | {"generated": banks})


def part_alone(level: Level) -> str | None:
    """The name of the only part that is not neutral; None if there are several or none."""
    parts = [name for name in SPACE.names if level[name] != _CLEAN[name]]
    return parts[0] if len(parts) == 1 else None


def cells(
    methods: dict[str, Restorer], levels: list[Level], folder: Path, images: int
) -> dict[str, dict[Level, float]]:
    """Mean PSNR of each method in each cell; "alone" is that of the shipped networks."""
    _, protocol = TASK.protocol(None)
    paths = find_images(folder)
    paths = [paths[index] for index in spread(len(paths), images)]
    shipped = {name: Restorer.from_pretrained(weights) for name, weights in _ALONE.items()}
    figures: dict[str, dict[Level, float]] = {name: {} for name in (*methods, "alone")}
    for level in levels:
        asked = {name: (restorer, level) for name, restorer in methods.items()}
        if (part := part_alone(level)) is not None:
            asked["alone"] = (shipped[part], shipped[part].space.parse(level[part]))
        found: dict[str, list[float]] = {name: [] for name in asked}
        for path in paths:
            degraded, clean = degraded_pair(path, folder, protocol, level, seed=0)
            for name, (restorer, at) in asked.items():
                found[name].append(psnr(restore_degraded(restorer, degraded, at), clean))
        for name, values in found.items():
            figures[name][level] = float(np.mean(values))
        print(
            level, {name: round(each[level], 2) for name, each in figures.items() if level in each}
        )
    return figures


def heat_map(figures: dict[str, dict[Level, float]], names: list[str]) -> bytes:
    """A PNG: for each method and quality, the PSNR less that of the networks for each mixture."""
    blurs, noises, qualities = lines(list(figures["one each"]))
    figure = Figure(figsize=(2.8 * len(qualities) + 1, 2.6 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), len(qualities), squeeze=False)
    for (row, name), (column, quality) in itertools.product(enumerate(names), enumerate(qualities)):
        axes = panels[row, column]
        levels = [[SPACE.parse((b, n, quality)) for n in noises] for b in blurs]
        distance = np.array(
            [[figures[name][each] - figures["one each"][each] for each in line] for line in levels]
        )
        image = axes.imshow(distance, cmap="coolwarm_r", vmin=-1, vmax=1)
        for (y, x), value in np.ndenumerate(distance):
            # Undegraded images are restored exactly by some networks.
            text = f"{value:+.2f}" if np.isfinite(value) else ""
            axes.text(x, y, text, ha="center", va="center")
        axes.set_xticks(range(len(noises)), [f"{noise:g}" for noise in noises])
        axes.set_yticks(range(len(blurs)), [f"{blur:g}" for blur in blurs])
        compressed = "no JPEG" if quality == SPACE.neutral["jpeg"] else f"JPEG {quality:g}"
        axes.set_title(f"{name}, {compressed}", fontsize=9)
        axes.set_xlabel("noise sigma", fontsize=8)
        axes.set_ylabel("blur sigma", fontsize=8)
    figure.colorbar(image, ax=panels, label="dB, relative to a network for each")
    return png_of(figure)


def linearity(model: Model, theta: Theta, levels: list[Level]) -> str:
    """A table: the network of each part's middle level, on the line between those of its ends."""

    def network(level: Level) -> np.ndarray:
        return np.asarray(ravel_pytree(model.generate(theta, level.array))[0], np.float64)

    rows = []
    for name, line in zip(SPACE.names, lines(levels), strict=True):
        if len(line) < 3:
            continue
        low, middle, high = line[0], line[1], line[-1]
        start, between, end = (network(SPACE.parse({name: v})) for v in (low, middle, high))
        way = end - start
        along = (between - start) @ way / (way @ way)
        off = np.linalg.norm(between - start - along * way) / np.linalg.norm(way)
        axis = SPACE.axes[SPACE.names.index(name)]
        zero, z, far = (float(axis.normalise(value)) for value in (low, middle, high))
        rows.append(
            (f"{name}={middle:g}", f"{(z - zero) / (far - zero):.2f}", f"{along:.2f}", f"{off:.2f}")
        )
    return table(("middle", "z", "along the line", "off the line"), rows, text_columns=1)


def main() -> None:
    """Prints the tables and draws the heat map."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mixed", type=Path, required=True, help="workdir of the hypernetwork")
    parser.add_argument("--cells", type=Path, required=True, help="workdir of the other networks")
    parser.add_argument("--images", type=int, default=0, help="of the folder; 0: all")
    parser.add_argument("--output", type=Path, required=True, help="the plot, a .png")
    args = parser.parse_args()
    check_output(args.output, overwrite=False)
    config, theta = load_ema(args.cells)
    config = model_config(config)
    model = make_model(config)
    methods = {
        "hypernetwork": Restorer.from_workdir(args.mixed),
        "interpolation": interpolated(config, theta),
        "one each": Restorer(model, theta),
    }
    levels = mixtures(config)
    figures = cells(methods, levels, args.folder, args.images)
    names = (*methods, "alone")
    rows = [
        (str(level), *(f"{figures[name].get(level, np.nan):.2f}" for name in names))
        for level in levels
    ]
    print(table(("level", *names), rows, text_columns=1).replace("nan", ""))
    print(linearity(model, theta, levels))
    picture = heat_map(figures, [name for name in methods if name != "one each"])
    write_atomically(args.output, picture)


if __name__ == "__main__":
    with exit_with_sentence():
        main()
