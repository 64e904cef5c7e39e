"""Times the published network on one image: this package, PyTorch and ONNX Runtime.

    python benchmarks/inference.py [--height 320] [--width 480] [--rounds 5]

All contenders have the same parameters, generated at sigma 25, and their outputs are
compared. PyTorch runs as in the reference code (NCHW, eager) and also in channels_last
memory; ONNX Runtime runs the same network exported by PyTorch. Either is left out
if it is not installed (`pip install torch onnxruntime onnx`).
Last line: JSON with `ratio_to_torch` and `ratio_to_onnxruntime` (below 1: faster).
"""

import argparse
import io
import os

import jax
import jax.numpy as jnp
import numpy as np
from timing import bandwidth_gbs, interleave, macs, matmul_gflops, print_table

from hypernet_jax import NOISE_SIGMA, Affine, HyperNetwork, LevelSpace
from hypernet_jax.networks import ResidualNetwork, apply_network, init_network


def torch_network(params: dict, blocks: int):
    """The published network as in its reference code, with our parameters."""
    import torch
    from torch import nn

    def conv(tree, stride=1):
        kernel = np.asarray(tree["kernel"]).transpose(3, 2, 0, 1)
        layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, stride, 1)
        layer.weight.data = torch.from_numpy(np.ascontiguousarray(kernel))
        layer.bias.data = torch.from_numpy(np.array(tree["bias"]))
        return layer

    class Block(nn.Module):
        def __init__(self, tree):
            super().__init__()
            self.body = nn.Sequential(conv(tree["conv_1"]), nn.ReLU(), conv(tree["conv_2"]))

        def forward(self, x):
            return x + self.body(x)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = conv(params["head"], stride=2)
            self.blocks = nn.Sequential(*(Block(params[f"block_{i}"]) for i in range(blocks)))
            self.body_end = conv(params["body_end"])
            self.tail = nn.Sequential(
                conv(params["upsample"]),
                nn.PixelShuffle(2),
                nn.ReLU(),
                conv(params["refine"]),
                nn.ReLU(),
                conv(params["output"]),
            )

        def forward(self, x):
            x = self.head(x)
            return self.tail(x + self.body_end(self.blocks(x)))

    return Network().eval()


def torch_contenders(params, blocks, image):
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = torch_network(params, blocks)
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    last = torch_network(params, blocks).to(memory_format=torch.channels_last)
    x_last = x.to(memory_format=torch.channels_last)

    def run(network, x):
        with torch.no_grad():
            return network(x).numpy().transpose(0, 2, 3, 1)

    return {
        "torch NCHW": lambda: run(network, x),
        "torch channels_last": lambda: run(last, x_last),
    }


def onnx_contender(params, blocks, image):
    import onnxruntime
    import torch

    stream = io.BytesIO()
    x = torch.from_numpy(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    torch.onnx.export(torch_network(params, blocks), (x,), stream, dynamo=False)
    session = onnxruntime.InferenceSession(stream.getvalue(), providers=["CPUExecutionProvider"])
    name, array = session.get_inputs()[0].name, x.numpy()
    return {"onnxruntime": lambda: session.run(None, {name: array})[0].transpose(0, 2, 3, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=16)
    args = parser.parse_args()

    network = ResidualNetwork(blocks=args.blocks)
    hypernet = HyperNetwork(LevelSpace.of(NOISE_SIGMA), Affine())
    theta = hypernet.init(jax.random.key(1), init_network(jax.random.key(0), network))
    params = hypernet.generate(theta, 25.0)
    image = np.asarray(jax.random.uniform(jax.random.key(2), (1, args.height, args.width, 3)))

    forward = jax.jit(lambda params, image: apply_network(network, params, image))
    runs = {"hypernet_jax": lambda: np.asarray(forward(params, image))}
    for add in (torch_contenders, onnx_contender):
        try:
            runs |= add(params, args.blocks, image)
        except ImportError as error:
            print(f"left out: {error}")
    expected = runs["hypernet_jax"]()
    for name, run in runs.items():
        error = np.abs(run() - expected).max() / np.abs(expected).max()
        if error > 1e-4:
            raise SystemExit(f"{name} disagrees by {error:.2g} of the largest value.")

    count = macs(forward, params, jnp.asarray(image))
    # Lower bound on bytes moved: every feature map is written once and read once.
    floats = (2 * args.blocks + 2) * 16 + 16 + 64 + 64 + 3
    moved = 2 * 4 * floats * args.height * args.width
    ceiling, bandwidth = matmul_gflops(), bandwidth_gbs()
    seconds = interleave(runs, rounds=args.rounds)
    ours = seconds["hypernet_jax"]
    rows = [
        [name, s, s / ours, 2 * count / s / 1e9, 2 * count / s / 1e9 / ceiling]
        for name, s in seconds.items()
    ]

    def ratio(name):
        return ours / seconds[name] if name in seconds else None

    print_table(
        ["contender", "s", "times ours", "GFLOP/s", "of matmul ceiling"],
        rows,
        {
            "ratio_to_torch": ratio("torch NCHW"),
            "ratio_to_torch_channels_last": ratio("torch channels_last"),
            "ratio_to_onnxruntime": ratio("onnxruntime"),
            "seconds": ours,
            "gmac": count / 1e9,
            "matmul_gflops": ceiling,
            "of_matmul_ceiling": 2 * count / ours / 1e9 / ceiling,
            "bandwidth_gbs": bandwidth,
            "of_bandwidth_ceiling": moved / ours / 1e9 / bandwidth,
        },
    )


if __name__ == "__main__":
    main()
