"""Kills a training run at random moments and compares its result with an uninterrupted run.

    python benchmarks/preemption.py [--kills 20] [--terms 3] [--steps 300] [--seed 0]
                                    [--workdir s3://BUCKET/NAME] [--dataset ADDRESS]

Trains a small network with the real command, once uninterrupted, and once killed
by SIGKILL and SIGTERM and restarted each time. With --workdir the killed run writes
there, such as to a bucket; the other writes to this machine. Last line: JSON with
`bit_identical`, the comparison of all final parameters.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from hypernet_jax.checkpoints import load_ema
from hypernet_jax.storage import names_in, storage_path

REPOSITORY = Path(__file__).parent.parent


def train_command(
    workdir: str | Path, *, steps: int, dataset: str = "", log_every: int = 10
) -> list[str]:
    """The real command for a network so small that its steps take milliseconds."""
    return [
        sys.executable,
        str(REPOSITORY / "train.py"),
        f"--config={REPOSITORY / 'configs/denoise.py'}:compact",
        f"--workdir={workdir}",
        f"--config.steps={steps}",
        f"--config.data.dataset={dataset}",
        "--config.network.channels=4",
        "--config.network.blocks=1",
        "--config.levels.count=2",
        "--config.data.crop_size=16",
        "--config.validation.crop_size=32",
        "--config.validation.levels=(25.0,)",
        "--config.checkpoint.every=10",
        f"--config.log_every={log_every}",
    ]


def run_with_kills(
    command: list[str], workdir: str | Path, *, signals: list[int], rng: random.Random
) -> int:
    """Starts the command repeatedly, and ends it with the next signal at a random moment.

    The signal is sent shortly after this start has saved its first step, or after five minutes
    at the latest. After the last signal the run may finish. Returns the number of signals that
    hit a running process.
    """
    hits, startup = 0, 300.0
    for number in signals:
        before = _newest(workdir)
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and time.monotonic() - start < startup:
            if _newest(workdir) != before:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.4))
        if process.poll() is None:
            process.send_signal(number)
            hits += 1
        status = process.wait()
        if number == signal.SIGTERM and status not in (0, -signal.SIGTERM):
            raise SystemExit(f"SIGTERM ended the run with status {status}, not 0.")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return hits


def _newest(workdir: str | Path) -> int:
    folder = storage_path(workdir) / "checkpoints"
    if isinstance(folder, Path):
        names = [path.name for path in folder.glob("*")]
    else:  # the checkpoint may still be on its way
        names = names_in(folder)
    return max((int(name) for name in names if name.isdigit()), default=-1)


def identical(one: str | Path, other: str | Path) -> bool:
    """Whether two runs ended with the same averaged parameters, bit for bit."""
    import jax

    left, right = (jax.tree.leaves(load_ema(workdir)[1]) for workdir in (one, other))
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--terms", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", help="of the killed run; a new one, which is kept")
    parser.add_argument("--dataset", default="", help="a folder or an address")
    args = parser.parse_args()

    rng = random.Random(args.seed)
    signals = [signal.SIGKILL] * args.kills + [signal.SIGTERM] * args.terms
    rng.shuffle(signals)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        killed: str | Path = args.workdir or Path(folder) / "killed"
        subprocess.run(
            train_command(whole, steps=args.steps, dataset=args.dataset),
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        hits = run_with_kills(
            train_command(killed, steps=args.steps, dataset=args.dataset),
            killed,
            signals=signals,
            rng=rng,
        )
        same = identical(whole, killed)
    print(json.dumps({"signals": len(signals), "hit_a_living_run": hits, "bit_identical": same}))
    if not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
