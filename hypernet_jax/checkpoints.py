"""Checkpoints of a training run. The only home of Orbax."""

import json
from pathlib import Path
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp

from hypernet_jax.errors import UserError
from hypernet_jax.model import make_model, model_config

__all__ = ["Checkpoints", "load_ema"]


class Checkpoints:
    """State, data position and config of a run, under WORKDIR/checkpoints.

    Saves are asynchronous and atomic: a checkpoint appears under its final name
    only when it is whole. Use as a context manager; leaving it waits for saves.
    """

    def __init__(self, workdir: str | Path, *, keep: int = 3):
        self._manager = ocp.CheckpointManager(
            Path(workdir).absolute() / "checkpoints",
            options=ocp.CheckpointManagerOptions(
                preservation_policy=ocp.checkpoint_managers.LatestN(keep),
                enable_async_checkpointing=True,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint, or None."""
        return self._manager.latest_step()

    def save(self, state: dict[str, Any], data_iterator, config_json: str) -> None:
        """Saves at the state's own step; does nothing if that step is saved already."""
        step = int(state["step"])
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                data=grain.checkpoint.CheckpointSave(data_iterator),
                config=ocp.args.JsonSave(json.loads(config_json)),
            ),
        )

    def restore(self, state: dict[str, Any], data_iterator) -> dict[str, Any]:
        """Returns the newest saved state and puts `data_iterator` at its position.

        Args:
          state: a state of the same structure, for shapes, types and placement.
          data_iterator: the pipeline's iterator; changed in place.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        restored = self._manager.restore(
            self.latest_step(),
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),
                data=grain.checkpoint.CheckpointRestore(data_iterator),
            ),
        )
        return restored["state"]

    def config(self) -> dict[str, Any]:
        """The config that the newest checkpoint was trained with."""
        restored = self._manager.restore(
            self.latest_step(), args=ocp.args.Composite(config=ocp.args.JsonRestore())
        )
        return dict(restored["config"])


def load_ema(workdir: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads (config, averaged theta) of the newest checkpoint of a run.

    Raises:
      UserError: if there is none.
    """
    folder = Path(workdir).absolute() / "checkpoints"
    if not folder.is_dir():
        raise UserError(f"There is no checkpoint in {workdir}; give the workdir of a training run.")
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.latest_step()
        if step is None:
            raise UserError(f"There is no complete checkpoint in {workdir}; train for longer.")
        config = checkpoints.config()
    with ocp.CheckpointManager(folder) as manager:
        model = make_model(model_config(config))
        abstract = {"ema": jax.eval_shape(model.init, jax.random.key(0))}
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=jax.sharding.SingleDeviceSharding(jax.devices()[0])
            ),
            abstract,
        )
        restored = manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(
                    abstract,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(abstract),
                    partial_restore=True,
                )
            ),
        )
    return config, restored["state"]["ema"]
