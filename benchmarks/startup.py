"""Seconds until the package is imported and the command has printed its help.

    python benchmarks/startup.py

The bare interpreter is the limit; medians of processes that take turns.
"""

import argparse
import subprocess
import sys

from timing import interleave, print_table

_CODE = {
    "python -c pass": ["-c", "pass"],
    "import hypernet_jax": ["-c", "import hypernet_jax"],
    "hypernet-jax --help": ["-m", "hypernet_jax.cli.main", "--help"],
    "hypernet-jax restore --help": ["-m", "hypernet_jax.cli.main", "restore", "--help"],
}


def main() -> None:
    """Prints seconds and ratios to the bare interpreter."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    runs = {
        name: lambda code=code: (
            subprocess.run(
                [sys.executable, *code], check=True, stdout=subprocess.DEVNULL
            ).returncode
        )
        for name, code in _CODE.items()
    }
    seconds = interleave(runs, rounds=args.rounds)
    bare = seconds["python -c pass"]
    rows = [[name, time, time / bare] for name, time in seconds.items()]
    summary = {"benchmark": "startup"} | {name: round(time, 3) for name, time in seconds.items()}
    print_table(["", "seconds", "of a bare interpreter's"], rows, summary)


if __name__ == "__main__":
    main()
