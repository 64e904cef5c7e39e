"""Trains a hypernetwork: python train.py --config=configs/denoise.py:compact --workdir=DIR."""

from absl import flags

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.cli.scripts import run_script
from hypernet_jax.errors import UserError

with exit_with_sentence():  # an extra of the package
    from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file("config", help_string="FILE.py or FILE.py:VARIANT.")
_WORKDIR = flags.DEFINE_string("workdir", "", "Folder for checkpoints and metrics.")
_SWEEP = flags.DEFINE_string(
    "sweep", "", "Instead of --config: a JSON file of configs to train one after the other."
)
_PROFILE = flags.DEFINE_string(
    "profile", "", "START:STOP: a trace of these steps, in the workdir's folder profile."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "With several processes: HOST:PORT of process 0, or auto on a cluster."
)
_PROCESSES = flags.DEFINE_integer("processes", 1, "Number of processes that train together.")
_PROCESS = flags.DEFINE_integer("process", 0, "Index of this process, from 0.")


def main(argv):
    # Imported here so that errors in starting JAX are reported in a sentence.
    from hypernet_jax.cli.info import load_config
    from hypernet_jax.cli.processes import ending_with_the_others
    from hypernet_jax.training.loop import train
    from hypernet_jax.training.mesh import join_processes
    from hypernet_jax.training.profiling import parse_steps
    from hypernet_jax.training.sweep import run_sweep

    del argv  # only flags are used
    if (_CONFIG.value is None) == (not _SWEEP.value) or not _WORKDIR.value:
        raise UserError(
            "Give --config=configs/denoise.py:compact (or another), or --sweep=FILE, and "
            "--workdir=DIR."
        )
    if _SWEEP.value and _PROFILE.value:
        raise UserError("--profile is for a single run; give it without --sweep.")
    profile = parse_steps(_PROFILE.value) if _PROFILE.value else None
    join_processes(
        coordinator=_COORDINATOR.value, processes=_PROCESSES.value, process=_PROCESS.value
    )
    with ending_with_the_others():
        if _SWEEP.value:
            text, failed = run_sweep(_SWEEP.value, _WORKDIR.value, load=load_config)
            print(text)
            if failed:
                raise UserError(f"{failed} of the runs failed; the table has the reasons.")
        else:
            train(_CONFIG.value, _WORKDIR.value, profile=profile)


if __name__ == "__main__":
    run_script(main)
