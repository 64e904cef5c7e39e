"""Times a training step with K networks at once, compared with one plain network.

    python benchmarks/train_step.py [--crops 16] [--crop-size 64] [--rounds 10]

The number of images is the same in every row: K levels restore crops / K crops
each. A step is forward, backward and an Adam update. "plain" is the network
without a hypernetwork; "unrolled" a network per level, as in training; "conv" one
network under vmap whose convolutions are unrolled by level; "wide" one with the
whole kernel bank in each convolution and a level per image; "vmap" an ordinary vmap
with lax's own convolution. With `--dtype bfloat16` the unrolled float32 step is also
timed. Last line: JSON with `ratio_to_plain` of the default form at K = 4.
"""

import argparse
import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from timing import bandwidth_gbs, interleave, macs, matmul_gflops, print_table

from hypernet_jax.model import Model, make_model
from hypernet_jax.networks import init_network, residual

LEVELS = (1, 2, 4, 8, 16)
OPTIMIZER = optax.adam(1e-4)


def stepper(loss):
    """forward(parameters) and step(parameters, optimizer state), compiled."""

    def step(parameters, state):
        value, gradient = jax.value_and_grad(loss)(parameters)
        updates, state = OPTIMIZER.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, value

    return jax.jit(loss), jax.jit(step)


def plain(model: Model, images):
    """One network on all images."""
    return stepper(lambda params: jnp.mean(jnp.abs(model.apply(params, images) - 0.5)))


def adaptive(model: Model, images, count: int):
    """`count` networks, each on its share of the images."""
    levels = jnp.linspace(5.0, 95.0, count)[:, None]
    shares = images.reshape((count, -1, *images.shape[1:]))
    return stepper(
        lambda theta: jnp.mean(jnp.abs(model.restore_levels(theta, levels, shares) - 0.5))
    )


def feature_maps(model: Model, params, images) -> int:
    """Number of values in the feature maps of a plain network's convolutions."""

    def made(params, images):
        applied = {"capture_intermediates": lambda module, _: isinstance(module, nn.Conv)}
        return model.network.apply({"params": params}, images, **applied)[1]

    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(made, params, images)))


def with_lax_convolution(make):
    """Wraps `make` so that networks use lax's own convolution while it runs."""

    def traced(*args):
        ours = residual.Conv3x3.keywords["conv_general_dilated"]
        residual.Conv3x3.keywords["conv_general_dilated"] = lax.conv_general_dilated
        try:
            return make(*args)
        finally:
            residual.Conv3x3.keywords["conv_general_dilated"] = ours

    return traced


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=16, help="images per step, all levels")
    parser.add_argument("--crop-size", type=int, default=64)
    parser.add_argument("--network", choices=("residual", "unet"), default="residual")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--vmap-levels", type=int, default=4, help="largest K of the slow plain vmap"
    )
    args = parser.parse_args()

    shape = {"channels": args.channels, "blocks": args.blocks, "light_tail": True}
    config = {
        "task": "denoise",
        "normalisation": "per_hundred",
        "network": {"name": args.network} | (shape if args.network == "residual" else {}),
        "features": {"name": "affine"},
        "generated": "",
    }
    unrolled = make_model(config, compute_dtype=args.dtype, level_form="unrolled")
    conv = dataclasses.replace(unrolled, level_form="vmap")
    wide = dataclasses.replace(unrolled, level_form="wide")
    full = make_model(config, level_form="unrolled")
    params = init_network(jax.random.key(0), unrolled.network)
    theta = unrolled.init(jax.random.key(1))
    params_state, theta_state = OPTIMIZER.init(params), OPTIMIZER.init(theta)
    images = jax.random.uniform(jax.random.key(2), (args.crops, args.crop_size, args.crop_size, 3))
    forward_macs = macs(jax.jit(full.apply), params, images)
    ceiling, bandwidth = matmul_gflops(dtype=args.dtype), bandwidth_gbs()
    # Each feature map is written and read once forward, and twice backward.
    width = 2 if args.dtype == "bfloat16" else 4
    moved = 6 * width * feature_maps(unrolled, params, images)

    plain_forward, plain_step = plain(unrolled, images)
    rows, ratios, steps = [], {}, {}
    for count in LEVELS:
        if args.crops % count:
            continue
        forward, step = adaptive(unrolled, images, count)
        _, conv_step = adaptive(conv, images, count)
        _, wide_step = adaptive(wide, images, count)
        runs = {
            "plain forward": lambda: plain_forward(params),
            "plain": lambda: plain_step(params, params_state),
            "unrolled forward": lambda f=forward: f(theta),
            "unrolled": lambda f=step: f(theta, theta_state),
            "conv": lambda f=conv_step: f(theta, theta_state),
            "wide": lambda f=wide_step: f(theta, theta_state),
        }
        if args.dtype != "float32":
            _, full_step = adaptive(full, images, count)
            runs["float32"] = lambda f=full_step: f(theta, theta_state)
        if 1 < count <= args.vmap_levels:
            _, vmap_step = adaptive(conv, images, count)
            slow = with_lax_convolution(lambda f=vmap_step: f(theta, theta_state))
            slow()  # traced here, while the other convolution is in place
            runs["vmap"] = slow
        seconds = interleave(runs, rounds=args.rounds)
        ratios[count] = seconds["unrolled"] / seconds["plain"]
        steps[count] = seconds
        names = ("plain forward", "unrolled forward", "plain", "unrolled", "conv", "wide", "vmap")
        if args.dtype != "float32":
            names = (*names, "float32")
        rows.append(
            [
                count,
                *(seconds.get(name, "-") for name in names),
                ratios[count],
                6 * forward_macs / seconds["unrolled"] / 1e9 / ceiling,
            ]
        )
    header = ["K", "plain fwd s", "ours fwd s", "plain s", "ours s", "conv s", "wide s", "vmap s"]
    if args.dtype != "float32":
        header.append("ours float32 s")
    chosen = steps.get(4, steps[1])
    print_table(
        [*header, "ours / plain", "of matmul ceiling"],
        rows,
        {
            "ratio_to_plain": ratios.get(4),
            "ratios": ratios,
            "ratio_conv": chosen["conv"] / chosen["plain"],
            "ratio_wide": chosen["wide"] / chosen["plain"],
            "ratio_vmap": chosen["vmap"] / chosen["plain"] if "vmap" in chosen else None,
            "growth_from_k1": max(s["unrolled"] for s in steps.values()) / steps[1]["unrolled"],
            "speedup_of_dtype": chosen["float32"] / chosen["unrolled"]
            if "float32" in chosen
            else None,
            "images_per_second": args.crops / chosen["unrolled"],
            "dtype": args.dtype,
            "matmul_gflops": ceiling,
            "of_matmul_ceiling": 6 * forward_macs / chosen["unrolled"] / 1e9 / ceiling,
            "bandwidth_gbs": bandwidth,
            "of_bandwidth_ceiling": moved / chosen["unrolled"] / 1e9 / bandwidth,
            "gmac_forward": forward_macs / 1e9,
        },
    )


if __name__ == "__main__":
    main()
