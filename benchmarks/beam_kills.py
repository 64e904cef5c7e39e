"""Kills workers of a pipeline that prepares a dataset, and compares it with the local route's.

    python benchmarks/beam_kills.py [--photographs 10000] [--kills 2] [--seed 0]

Makes small noisy photographs, some of them unusable, and prepares them with the real command: once
without a pipeline, and once on Apache Beam's DirectRunner with two worker processes, one of
which is killed by SIGKILL, at a random moment, as often as --kills says. Where the command ends,
it is given again. Last line: JSON with the counts of both, and `same_records`, the comparison of
all records. Linux only: workers are found in /proc.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from hypernet_jax.data.prepare import open_split

PIPELINE = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"
# Side of a photograph, and every how many a file is too small or no image.
SIDE, UNUSABLE = 128, 400


def make_photographs(folder: Path, count: int, seed: int) -> None:
    """Crops of scikit-image's photographs with noise, in folders of 1000."""
    import skimage.data

    pictures = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    rng = np.random.default_rng(seed)
    for number in range(count):
        path = folder / f"{number // 1000:02d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % UNUSABLE == 7:
            path.write_bytes(b"no image")
            continue
        side = 40 if number % UNUSABLE == 11 else SIDE
        picture = pictures[number % len(pictures)]
        top, left = (rng.integers(0, length - side) for length in picture.shape[:2])
        crop = picture[top : top + side, left : left + side]
        noisy = crop + rng.normal(0, 10, crop.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def command(source: Path, output: Path, *more: str) -> list[str]:
    """The real command."""
    return [
        *(sys.executable, "-m", "hypernet_jax.cli.main", "prepare", str(source)),
        *("-o", str(output), "--size=96", "--stride=32", *more),
    ]


def workers_of(parent: int) -> list[int]:
    """Processes of Beam's workers among the descendants of a process."""
    parents, workers = {}, []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended
            continue
        parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
        if b"apache_beam.runners.worker.sdk_worker_main" in words:
            workers.append(int(entry.name))

    def descends(process: int) -> bool:
        while process in parents and process != parent:
            process = parents[process]
        return process == parent

    return [process for process in workers if descends(process)]


def parts_in(output: Path) -> dict[str, int]:
    """Times of writing of the finished shards."""
    return {path.name: path.stat().st_mtime_ns for path in output.glob("part-*.json")}


def prepare_with_kills(
    arguments: list[str], output: Path, *, shards: int, kills: int, rng: random.Random
) -> None:
    """Gives the command until it ends well; prints a line about each attempt.

    A worker is killed when this attempt has done a random number of the missing shards, half of
    them at most.
    """
    for _ in range(kills + 5):
        before = parts_in(output)
        redone, killed = set(), 0
        due = len(before) + rng.randint(1, max(1, (shards - len(before)) // 2))
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(arguments, stdout=said, stderr=said)
            while process.poll() is None:
                time.sleep(0.05)
                now = parts_in(output)
                redone |= {name for name, at in before.items() if now.get(name, at) != at}
                if len(now) >= due and killed < min(kills, 1):
                    found = workers_of(process.pid)
                    for worker in rng.sample(found, k=min(1, len(found))):
                        os.kill(worker, signal.SIGKILL)
                        killed += 1
            said.seek(0)
            # What workers write to the same stream may precede it on its line.
            told = re.findall(r"(?:error: [A-Z]|wrote ).*", said.read())
        kills -= killed
        attempt = {
            "status": process.returncode,
            "shards_before": len(before),
            "workers_killed": killed,
            "shards_redone": len(redone),
            "said": told[-1:],
        }
        print(json.dumps(attempt), flush=True)
        if process.returncode == 0:
            return
    raise SystemExit("The command does not end well; see the lines above.")


def records_of(dataset: Path) -> dict[str, list[str]]:
    """Photograph and digest of the encoded image of each record, sorted, by split."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(dataset))
    encoded = {"image": tfds.decode.SkipDecoding()}
    return {
        split: sorted(
            f"{record['photograph']!r} {hashlib.sha256(bytes(record['image'])).hexdigest()}"
            for record in builder.as_data_source(split=split, decoders=encoded)
        )
        for split in builder.info.splits
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        source, here, piped = (Path(folder) / name for name in ("photographs", "here", "piped"))
        make_photographs(source, args.photographs, args.seed)
        start = time.monotonic()
        done = subprocess.run(command(source, here), capture_output=True, text=True, check=True)
        print(done.stdout.strip(), f"({time.monotonic() - start:.0f} s)", flush=True)
        start = time.monotonic()
        prepare_with_kills(
            command(source, piped, f"--beam-options={PIPELINE}"),
            piped,
            shards=-(-args.photographs // 128),
            kills=args.kills,
            rng=random.Random(args.seed),
        )
        seconds = time.monotonic() - start
        one, other = records_of(here), records_of(piped)
        len(open_split(piped, "train"))  # as train.py opens it
        counts = {split: len(records) for split, records in other.items()}
    print(
        json.dumps(
            {
                "photographs": args.photographs,
                "records": counts,
                "records_of_the_local_route": {split: len(each) for split, each in one.items()},
                "same_records": one == other,
                "seconds": round(seconds),
            }
        )
    )
    if one != other:
        sys.exit(1)


if __name__ == "__main__":
    main()
