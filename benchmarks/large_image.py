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
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import skimage.data
from PIL import Image
from timing import environment

from hypernet_jax.tasks import TASKS, get_task


def make_photograph(path: Path, side: int) -> None:
    """A real photograph, tiled with mirroring; noisy, so that it does not compress easily."""
    degradation = get_task("denoise").degradation
    noisy = np.asarray(degradation(jax.random.key(0), skimage.data.coffee(), {"noise": 25.0}))
    tile = noisy.astype(np.uint8)
    tile = np.concatenate([tile, tile[::-1]])
    tile = np.concatenate([tile, tile[:, ::-1]], axis=1)
    times = [math.ceil(side / length) for length in tile.shape[:2]]
    Image.fromarray(np.tile(tile, (*times, 1))[:side, :side]).save(path, compress_level=1)


# The strengths that were best on the low-light set, h 10 and hColor 20.
_NLM = """
import sys
import cv2
cv2.imwrite(sys.argv[2], cv2.fastNlMeansDenoisingColored(cv2.imread(sys.argv[1]), None, 10, 20))
"""
# On Linux the peak memory of a process begins with that of the one that started it, which here has
# held the photograph. A small process between them starts the command and reports.
_SMALL = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def measured(command: Sequence[str | Path]) -> tuple[float, float]:
    """Seconds and peak gigabytes of a command."""
    start = time.perf_counter()
    small = [sys.executable, "-S", "-c", _SMALL, *command]
    done = subprocess.run(small, check=True, stdout=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - start
    # In kibibytes on Linux.
    return seconds, int(done.stdout.split()[-1]) * 1024 / 1e9


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
        seconds, peak = measured(command)
        with Image.open(output) as picture:
            pixels = picture.width * picture.height
        other = {}
        if args.nlm:
            found = measured([sys.executable, "-c", _NLM, source, Path(name) / "nlm.png"])
            other = {"nlm_seconds": round(found[0], 1), "nlm_gigabytes": round(found[1], 2)}
    figures = {
        "task": args.task,
        "input": f"{side}x{side}",
        "megapixels": round(pixels / 1e6, 1),
        "seconds": round(seconds, 1),
        "megapixels_per_second": round(pixels / 1e6 / seconds, 3),
        "peak_gigabytes": round(peak, 2),
        "memory_option": args.memory,
        "backend": args.backend,
    }
    print(json.dumps(figures | other | environment()))


if __name__ == "__main__":
    # Pillow's size limit does not matter here, because only a header is read.
    Image.MAX_IMAGE_PIXELS = None
    main()
