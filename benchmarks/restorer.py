"""Times the restorer, PyTorch and ONNX Runtime, and the latency of the page's slider.

    python benchmarks/restorer.py --size 480 320 --rounds 5

All take turns to compute the network that the shipped weights generate for one level,
from the same 8-bit image to the same 8-bit result. The slider's row is a window of
300x300 pixels at a new level each time, PNG file included.
Needs torch, onnx and onnxruntime; those that are missing are left out.
"""

import argparse
import io
import itertools

import numpy as np
import skimage.data
from PIL import Image
from timing import interleave, print_table

from hypernet_jax import Restorer, UserError, load_weights


def _torch_contender(network, params, image):
    """The network in PyTorch, channels last."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    def weights(name):
        node = params
        for part in name.split("/"):
            node = node[part]
        kernel = torch.from_numpy(np.asarray(node["kernel"]).transpose(3, 2, 0, 1).copy())
        return kernel.to(memory_format=torch.channels_last), torch.from_numpy(
            np.asarray(node["bias"]).copy()
        )

    names = ["head", "body_end", "output"]
    names += [f"block_{i}/conv_{j}" for i in range(network.blocks) for j in (1, 2)]
    held = {name: weights(name) for name in names}

    def run():
        with torch.inference_mode():
            x = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
            x = x.contiguous(memory_format=torch.channels_last)
            head = F.conv2d(x, *held["head"], stride=2, padding=1)
            y = head
            for i in range(network.blocks):
                z = F.relu(F.conv2d(y, *held[f"block_{i}/conv_1"], padding=1))
                y = y + F.conv2d(z, *held[f"block_{i}/conv_2"], padding=1)
            y = head + F.conv2d(y, *held["body_end"], padding=1)
            y = F.pixel_shuffle(F.conv2d(y, *held["output"], padding=1), 2)
            y = (x + y if network.residual_output else y).clamp(0, 1)
            return (255 * y).round().to(torch.uint8)[0].permute(1, 2, 0).numpy()

    return run


def _onnx_contender(restorer, level, image):
    """The whole image in one session, without tiles."""
    network = restorer.backend.prepare(restorer.space.parse(level))
    size = np.array([image.shape[:2]])

    def run():
        restored = np.clip(network(image[None].astype(np.float32) / 255, size)[0], 0, 1)
        return np.round(255 * restored).astype(np.uint8)

    return run


def _slider(restorer, photograph):
    levels = itertools.cycle(range(1, 97, 5))
    part = np.s_[50:350, 150:450]

    def run():
        after = restorer.restore(photograph, level=next(levels), window=part, margin=16)
        # The picture before restoration is written only once, so it is not timed.
        Image.fromarray(after).save(io.BytesIO(), "PNG", compress_level=1)

    return run


def main() -> None:
    """Prints seconds, megapixels per second and the ratio to the restorer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="denoise", help="with a light tail, as shipped")
    parser.add_argument("--size", type=int, nargs=2, default=[480, 320], metavar=("W", "H"))
    parser.add_argument("--level", type=float, default=25.0)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    model, theta = load_weights(args.weights)
    restorer = Restorer(model, theta)  # with the fastest available backend
    network = restorer.model.network
    params = restorer.params(args.level)
    photograph = skimage.data.coffee()
    width, height = args.size
    image = np.asarray(Image.fromarray(photograph).resize((width, height)))
    contenders = {"restorer": lambda: restorer.restore(image, level=args.level)}
    try:
        contenders["PyTorch"] = _torch_contender(network, params, image)
    except ImportError as error:
        print(f"PyTorch is left out: {error}")
    on_jax = Restorer(model, theta, backend="jax")
    contenders["restorer on JAX"] = lambda: on_jax.restore(image, level=args.level)
    try:
        on_onnx = Restorer(model, theta, backend="onnxruntime")
        contenders["ONNX Runtime"] = _onnx_contender(on_onnx, args.level, image)
    except UserError as error:
        print(f"ONNX Runtime is left out: {error}")
    expected = contenders["restorer"]().astype(int)
    for name, run in contenders.items():
        difference = np.abs(run().astype(int) - expected).max()
        if difference > 1:
            raise SystemExit(f"{name} computes something else: {difference} grey levels away.")
    contenders["slider, 300x300"] = _slider(restorer, photograph)
    seconds = interleave(contenders, rounds=args.rounds)
    rows = []
    for name, time in seconds.items():
        pixels = 300 * 300 if name.startswith("slider") else width * height
        ratio = "" if name.startswith("slider") else time / seconds["restorer"]
        rows.append([name, time, pixels / 1e6 / time, ratio])
    header = ["", "seconds", "megapixels/s", "of the restorer's time"]
    summary = {"benchmark": "restorer", "weights": args.weights, "size": args.size} | {
        name: round(time, 4) for name, time in seconds.items()
    }
    print_table(header, rows, summary)


if __name__ == "__main__":
    main()
