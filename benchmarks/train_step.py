"""What K networks at once cost beside one plain network on the same images.

    python benchmarks/train_step.py [--crops 16] [--crop-size 64] [--rounds 10]

The number of images is the same in every row: K levels restore crops / K crops
each. "plain" is the network without a hypernetwork; "vmap" the plain meaning,
with lax's convolution; "unrolled" the level-parallel convolution that training
uses. Last line: JSON with `ratio_to_plain` of the default form at K = 4.
"""

import argparse

import jax
import jax.numpy as jnp
from jax import lax
from timing import interleave, macs, matmul_gflops, print_table

from hypernet_jax import NOISE_SIGMA, Affine, HyperNetwork
from hypernet_jax.networks import ResidualNetwork, apply_network, init_network, residual

LEVELS = (1, 2, 4, 8, 16)


def contenders(network, theta, hypernet, params, images, count):
    """Zero-argument functions: forward, and forward with gradient, of plain and adaptive."""
    levels = jnp.linspace(5.0, 95.0, count)
    shared = images.reshape((count, images.shape[0] // count, *images.shape[1:]))

    def plain(params):
        return jnp.mean(jnp.abs(apply_network(network, params, images) - 0.5))

    def adaptive(theta):
        def one(level, crops):
            return apply_network(network, hypernet.generate(theta, level), crops)

        return jnp.mean(jnp.abs(jax.vmap(one)(levels, shared) - 0.5))

    return (
        (jax.jit(plain), jax.jit(jax.value_and_grad(plain))),
        (jax.jit(adaptive), jax.jit(jax.value_and_grad(adaptive))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=16, help="images per step, all levels")
    parser.add_argument("--crop-size", type=int, default=64)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--vmap-levels", type=int, default=4, help="largest K of the slow plain vmap"
    )
    args = parser.parse_args()

    options = {"channels": args.channels, "blocks": args.blocks, "light_tail": True}
    network = ResidualNetwork(**options)
    params = init_network(jax.random.key(0), network)
    hypernet = HyperNetwork(NOISE_SIGMA, Affine())
    theta = hypernet.init(jax.random.key(1), params)
    images = jax.random.uniform(jax.random.key(2), (args.crops, args.crop_size, args.crop_size, 3))
    macs_forward = macs(jax.jit(lambda p, x: apply_network(network, p, x)), params, images)
    ceiling = matmul_gflops()

    rows, ratios = [], {}
    for count in LEVELS:
        if args.crops % count:
            continue
        (plain_forward, plain_both), (forward, both) = contenders(
            network, theta, hypernet, params, images, count
        )
        runs = {
            "plain forward": lambda f=plain_forward: f(params),
            "plain": lambda f=plain_both: f(params),
            "unrolled forward": lambda f=forward: f(theta),
            "unrolled": lambda f=both: f(theta),
        }
        if 1 < count <= args.vmap_levels:
            runs["vmap"] = _plain_vmap(network, theta, hypernet, params, images, count)
        seconds = interleave(runs, rounds=args.rounds)
        ratios[count] = seconds["unrolled"] / seconds["plain"]
        rows.append(
            [
                count,
                seconds["plain forward"],
                seconds["unrolled forward"],
                seconds["plain"],
                seconds["unrolled"],
                seconds.get("vmap", "-"),
                ratios[count],
                6 * macs_forward / seconds["unrolled"] / 1e9 / ceiling,
            ]
        )
    header = ["K", "plain fwd s", "ours fwd s", "plain s", "ours s", "vmap s", "ours / plain"]
    print_table(
        [*header, "of matmul ceiling"],
        rows,
        {
            "ratio_to_plain": ratios.get(4),
            "ratios": ratios,
            "matmul_gflops": ceiling,
            "gmac_forward": macs_forward / 1e9,
        },
    )


def _plain_vmap(network, theta, hypernet, params, images, count):
    """The same step with lax's own convolution, whose vmap is a grouped convolution."""
    ours = residual.Conv3x3.keywords["conv_general_dilated"]
    residual.Conv3x3.keywords["conv_general_dilated"] = lax.conv_general_dilated
    try:
        _, (_, both) = contenders(network, theta, hypernet, params, images, count)
        both(theta)  # traced here, while the plain convolution is in place
    finally:
        residual.Conv3x3.keywords["conv_general_dilated"] = ours
    return lambda: both(theta)


if __name__ == "__main__":
    main()
