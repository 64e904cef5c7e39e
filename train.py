"""Trains a hypernetwork: python train.py --config=configs/denoise.py:compact --workdir=DIR."""

from absl import flags
from ml_collections import config_flags

from hypernet_jax.cli.scripts import run_script
from hypernet_jax.errors import UserError
from hypernet_jax.training.loop import train

_CONFIG = config_flags.DEFINE_config_file("config", help_string="FILE.py or FILE.py:VARIANT.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder for checkpoints and metrics.")


def main(argv):
    del argv  # flags alone
    if _CONFIG.value is None or not _WORKDIR.value:
        raise UserError("Give --config=configs/denoise.py:compact (or another) and --workdir=DIR.")
    train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    run_script(main)
