"""Runs the command: `python -m hypernet_jax`."""

import sys

from hypernet_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
