"""`hypernet-jax import-torch`: converts a PyTorch checkpoint to weights of this package."""

import argparse

from hypernet_jax.errors import UserError
from hypernet_jax.files import check_output, local_path, refuse_inputs
from hypernet_jax.interchange.level_estimator import is_level_network, level_estimator
from hypernet_jax.interchange.torch_file import read_state_dict
from hypernet_jax.interchange.torch_layout import restoration_theta
from hypernet_jax.tasks import get_task
from hypernet_jax.weights import save_weights

__all__ = ["import_torch"]


def import_torch(args: argparse.Namespace) -> int:
    """Writes one safetensors file."""
    task, output = get_task(args.task), local_path(args.output)
    check_output(output, overwrite=args.overwrite)
    refuse_inputs([output], [args.checkpoint])
    state = read_state_dict(args.checkpoint)
    if is_level_network(state):
        if args.level is not None or args.residual_output:
            raise UserError(
                "A noise-level network takes neither --level nor --residual-output; leave them out."
            )
        estimator = level_estimator(state, task=task.name)
        estimator.save(output, overwrite=args.overwrite)
        print(f"wrote {output} (level estimator for {task.name}, crops of {estimator.crop} pixels)")
        return 0
    theta, config = restoration_theta(
        state, task=task.name, level=args.level, residual_output=args.residual_output
    )
    save_weights(output, theta, config, overwrite=args.overwrite)
    network = config["network"]
    baked = f"level {task.space.parse(config['level'])}" if "level" in config else "every level"
    print(
        f"wrote {output} ({task.name}, {baked}: {network['blocks']} blocks of "
        f"{network['channels']} channels, {network['colours']} colour(s))"
    )
    return 0
