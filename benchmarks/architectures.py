"""Compares parameters, arithmetic and time of our and other untrained denoising networks.

    python benchmarks/architectures.py [--height 320] [--width 480] [--plot psnr_time.png]

DnCNN (20 layers, colour), FFDNet (colour) and DRUNet (colour) are built here from their papers
with plain XLA convolutions like ours, so that times compare architectures, not libraries. The plot
has the PSNR on CBSD68 at sigma 25 over these times (experiments/results: our own and published).
Last line: JSON with `ratio_to_ffdnet`, the shipped network's time over FFDNet's.
"""

import argparse
import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from timing import interleave, macs, print_table

from hypernet_jax.cli.info import load_config
from hypernet_jax.evaluation.drawing import png_of
from hypernet_jax.files import check_output, write_atomically
from hypernet_jax.model import make_model, model_config
from hypernet_jax.networks.residual import pixel_shuffle
from hypernet_jax.weights import load_weights

LAYOUT = ("NHWC", "HWIO", "NHWC")
RESULTS = Path(__file__).resolve().parent.parent / "experiments" / "results"
SIGMA = 25


class Weights:
    """Random kernels, created in the order in which a network requests them."""

    def __init__(self):
        self._rng = np.random.default_rng(0)
        self.arrays: list[jax.Array] = []

    def __call__(self, *shape: int) -> jax.Array:
        gain = np.sqrt(2.0 / np.prod(shape[:-1], initial=1))
        array = jnp.asarray(gain * self._rng.standard_normal(shape), jnp.float32)
        self.arrays.append(array)
        return array


def conv(x: jax.Array, kernel: jax.Array, bias: jax.Array | float = 0.0, stride: int = 1):
    padding = [(k // 2, k // 2) if stride == 1 else (0, 0) for k in kernel.shape[:2]]
    return bias + lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=LAYOUT
    )


def enlarge(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A transposed 2x2 convolution with stride 2."""
    y = lax.dot_general(x, kernel, (((3,), (0,)), ((), ())))
    return pixel_shuffle(y, 2)


def dncnn(weights: Weights) -> Callable:
    sizes = [3, *[64] * 19, 3]
    layers = [(weights(3, 3, a, b), weights(b)) for a, b in itertools.pairwise(sizes)]

    def apply(x):
        y = x
        for kernel, bias in layers[:-1]:
            y = jax.nn.relu(conv(y, kernel, bias))
        return x - conv(y, *layers[-1])

    return apply


def ffdnet(weights: Weights) -> Callable:
    sizes = [13, *[96] * 11, 12]
    layers = [(weights(3, 3, a, b), weights(b)) for a, b in itertools.pairwise(sizes)]

    def apply(x):
        n, h, w, c = x.shape
        y = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4)
        y = y.reshape(n, h // 2, w // 2, 4 * c)
        y = jnp.concatenate([y, jnp.full((n, h // 2, w // 2, 1), 0.1)], axis=-1)
        for kernel, bias in layers[:-1]:
            y = jax.nn.relu(conv(y, kernel, bias))
        return pixel_shuffle(conv(y, *layers[-1]), 2)

    return apply


def drunet(weights: Weights) -> Callable:
    channels = (64, 128, 256, 512)

    def blocks(c):
        return [(weights(3, 3, c, c), weights(3, 3, c, c)) for _ in range(4)]

    head = weights(3, 3, 4, 64)
    down = [(blocks(a), weights(2, 2, a, b)) for a, b in itertools.pairwise(channels)]
    body = blocks(channels[-1])
    up = [(weights(b, 4 * a), blocks(a)) for a, b in itertools.pairwise(channels)][::-1]
    tail = weights(3, 3, 64, 3)

    def residual(y, pairs):
        for one, two in pairs:
            y = y + conv(jax.nn.relu(conv(y, one)), two)
        return y

    def apply(x):
        y = conv(jnp.concatenate([x, jnp.full((*x.shape[:3], 1), 0.1)], axis=-1), head)
        skips = [y]
        for pairs, kernel in down:
            y = conv(residual(y, pairs), kernel, stride=2)
            skips.append(y)
        y = residual(y, body)
        for kernel, pairs in up:
            y = residual(enlarge(y + skips.pop(), kernel), pairs)
        return conv(y + skips.pop(), tail)

    return apply


def known_psnr() -> dict[str, float]:
    """PSNR on CBSD68 at `SIGMA`, by name of network, as measured or published."""

    def ours(study: dict) -> float:
        return next(row["psnr"] for row in study["rows"] if row["level"] == SIGMA)

    published = json.loads((RESULTS / "published.json").read_text())["denoise"]
    column = published["levels"].index(SIGMA)
    figures = {name: values[column] for name, _, values in published["rows"]}
    shipped = json.loads((RESULTS / "denoise-figures.json").read_text())[0]
    views = json.loads((RESULTS / "denoise-ensemble.json").read_text())
    return {
        "DnCNN": figures["CDnCNN-B"],
        "FFDNet": figures["FFDNet"],
        "DRUNet": figures["DRUNet"],
        "ours, shipped": ours(shipped),
        "ours, shipped, eight views": ours(views),
    }


def draw(path: Path, seconds: dict[str, float], size: str) -> None:
    """Plots PSNR over time; eight views take eight times as long as one."""
    from matplotlib.figure import Figure

    seconds = seconds | {"ours, shipped, eight views": 8 * seconds["ours, shipped"]}
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, psnr in known_psnr().items():
        axes.plot(seconds[name], psnr, "o", color="C3" if name.startswith("ours") else "C0")
        # Slow networks stand at the right edge, so their names stand below, at their left.
        left = seconds[name] > 2
        axes.annotate(
            name,
            (seconds[name], psnr),
            xytext=(-6, -14) if left else (6, 4),
            textcoords="offset points",
            horizontalalignment="right" if left else "left",
        )
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    axes.minorticks_off()
    axes.margins(x=0.35, y=0.15)
    axes.set_xlabel(f"seconds at {size}, {os.cpu_count()} CPU cores")
    axes.set_ylabel(f"PSNR on CBSD68 at sigma {SIGMA} (dB)")
    axes.grid(alpha=0.3)
    write_atomically(path, png_of(figure))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="a new .png")
    args = parser.parse_args()
    if args.plot:
        check_output(args.plot, overwrite=False)
    if args.height % 8 or args.width % 8:
        parser.error("height and width must be multiples of 8")
    image = jnp.asarray(
        np.random.default_rng(0).random((1, args.height, args.width, 3)), jnp.float32
    )
    functions, sizes = {}, {}
    for name, build in {"DnCNN": dncnn, "FFDNet": ffdnet, "DRUNet": drunet}.items():
        weights = Weights()
        functions[name] = jax.jit(build(weights))
        sizes[name] = sum(array.size for array in weights.arrays)
    published = make_model(model_config(load_config("configs/denoise.py:published")))
    unet = make_model(model_config(load_config("configs/denoise.py:unet")))
    ours = {
        "ours, shipped": load_weights("denoise"),
        "ours, U-Net": (unet, unet.init(jax.random.key(0))),
        "ours, published size": (published, published.init(jax.random.key(0))),
    }
    for name, (model, theta) in ours.items():
        params = model.generate(theta, 25.0)
        functions[name] = jax.jit(lambda x, m=model, p=params: m.apply(p, x))
        sizes[name] = model.parameter_counts()["generated_parameters"]
    seconds = interleave(
        {name: (lambda f=function: f(image)) for name, function in functions.items()},
        rounds=args.rounds,
    )
    pixels = args.height * args.width
    rows = [
        [
            name,
            f"{sizes[name]:,}",
            f"{macs(function, image) / pixels / 1e3:.0f}",
            f"{seconds[name]:.3f}",
            f"{seconds[name] / seconds['FFDNet']:.2f}",
        ]
        for name, function in functions.items()
    ]
    print_table(
        ["network", "parameters", "thousand multiply-adds per pixel", "s", "times FFDNet's"],
        rows,
        {
            "ratio_to_ffdnet": seconds["ours, shipped"] / seconds["FFDNet"],
            "size": [args.width, args.height],
        },
    )
    if args.plot:
        draw(args.plot, seconds, f"{args.width}x{args.height}")


if __name__ == "__main__":
    main()
