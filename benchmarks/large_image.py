"""Measures peak memory and speed of `hypernet-jax restore` on a very large photograph.

    python benchmarks/large_image.py                 # 100 megapixels, 8 bits, denoising
    python benchmarks/large_image.py --megapixels 25 --task sr --level 2 --memory 256
    python benchmarks/large_image.py --megapixels 12 --task photo --level auto --nlm

Prints one line of JSON: megapixels of the result per second for the whole command
(reading, restoring, writing), and the peak memory of the process. With --nlm also seconds and peak
memory of OpenCV's non-local means on the same photograph (needs opencv-python-headless).
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from timing import environment

from hypernet_jax.tasks import TASKS, get_task


def make_photograph(path: Path, side: int) -> None:
    """A real photograph, tiled with mirroring; noisy, so that it does not compress easily."""
    import jax

    degradation = get_task("denoise").degradation
    noisy = np.asarray(degradation(jax.random.key(0), skimage.data.coffee(), {"noise": 25.0}))
    tile = noisy.astype(np.uint8)
    tile = np.concatenate([tile, tile[::-1]])
    tile = np.concatenate([tile, tile[:, ::-1]], axis=1)
    times = [math.ceil(side / length) for length in tile.shape[:2]]
    Image.fromarray(np.tile(tile, (*times, 1))[:side, :side]).save(path, compress_level=1)


# The strengths that were best on the low-light set, h 10 and hColor 20.
_NLM = """
import resource, sys, time
import cv2
start = time.perf_counter()
cv2.imwrite(sys.argv[2], cv2.fastNlMeansDenoisingColored(cv2.imread(sys.argv[1]), None, 10, 20))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(time.perf_counter() - start, peak)
"""


def non_local_means(source: Path, output: Path) -> dict[str, float]:
    """Seconds and gigabytes of OpenCV's non-local means in a process of its own."""
    command = [sys.executable, "-c", _NLM, source, output]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, peak = map(float, done.stdout.split())
    return {"nlm_seconds": round(seconds, 1), "nlm_gigabytes": round(peak / 1e9, 2)}


def main() -> None:
    """Makes the photograph, runs the command and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, default=100.0, help="size of the input")
    parser.add_argument("--task", default="denoise", choices=list(TASKS))
    parser.add_argument("--level", default="25")
    parser.add_argument("--memory", default="512", help="passed on to the command")
    parser.add_argument("--backend", default="auto", help="passed on to the command")
    parser.add_argument("--nlm", action="store_true", help="also times non-local means")
    args = parser.parse_args()
    side = round(math.sqrt(1e6 * args.megapixels))
    flag = "--scale" if TASKS[args.task].enlarges else "--level"
    with tempfile.TemporaryDirectory() as name:
        source, output = Path(name) / "in.png", Path(name) / "out.png"
        make_photograph(source, side)
        command = [sys.executable, "-m", "hypernet_jax.cli.main", "restore", source, "-o", output]
        command += ["--task", args.task, flag, args.level, "--memory", args.memory]
        command += ["--backend", args.backend]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        with Image.open(output) as picture:
            pixels = picture.width * picture.height
        # In kibibytes on Linux.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        other = non_local_means(source, Path(name) / "nlm.png") if args.nlm else {}
    figures = {
        "task": args.task,
        "input": f"{side}x{side}",
        "megapixels": round(pixels / 1e6, 1),
        "seconds": round(seconds, 1),
        "megapixels_per_second": round(pixels / 1e6 / seconds, 3),
        "peak_gigabytes": round(peak / 1e9, 2),
        "memory_option": args.memory,
        "backend": args.backend,
    }
    print(json.dumps(figures | other | environment()))


if __name__ == "__main__":
    # Pillow's size limit does not matter here, because only a header is read.
    Image.MAX_IMAGE_PIXELS = None
    main()
