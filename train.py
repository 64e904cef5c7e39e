"""Trains a hypernetwork: python train.py --config=configs/denoise.py:compact --workdir=DIR."""

from absl import app, flags
from ml_collections import config_flags

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.training.loop import train

_CONFIG = config_flags.DEFINE_config_file("config", help_string="File with get_config(variant).")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for checkpoints and metrics.")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}")
    with exit_with_sentence():
        train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
