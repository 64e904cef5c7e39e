"""The device mesh, with a data axis and a level axis, and the placement of arrays on it.

Crops are split over the data axis and levels over the level axis; the state is
replicated on every device, or split over all of them. Each device restores its
own crops at its own levels, so images are never exchanged: a step exchanges one
vector of gradients, some means of channels and, if the state is split, the parameters.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from hypernet_jax.data.levels import BatchForm
from hypernet_jax.errors import UserError

__all__ = [
    "AXES",
    "batch_specs",
    "in_order",
    "join_processes",
    "local_copy",
    "make_mesh",
    "place_batch",
    "state_shardings",
]

AXES = ("data", "level")


def batch_specs(entries: Iterable[str], form: BatchForm) -> dict[str, PartitionSpec]:
    """For each array of a batch, by name, how its axes are split over the mesh."""
    crops = ("level", "data") if form.own_crops else ("data",)
    axes = {
        "clean": crops,
        "ids": crops,
        "levels": ("level", "data") if form.of_crops else ("level",),
        "degraded": ("level", "data"),
    }
    return {name: PartitionSpec(*axes[name]) for name in entries}


def make_mesh(*, level_devices: int, levels: int, crops: int) -> Mesh:
    """A mesh of all devices of all processes, `level_devices` of them along the level axis.

    Args:
      level_devices: number of devices to split the levels over.
      levels: levels per step.
      crops: crops per step, over all processes.

    Raises:
      UserError: if devices, levels or crops do not divide evenly.
    """
    devices = jax.device_count()
    if level_devices < 1 or jax.local_device_count() % level_devices:
        raise UserError(
            f"config.level_devices is {level_devices}, but it must divide the number of devices "
            f"of a process, {jax.local_device_count()}."
        )
    if levels % level_devices:
        raise UserError(
            f"The {levels} levels of a step cannot be split over {level_devices} devices; "
            "change config.levels.count or config.level_devices."
        )
    data_devices = devices // level_devices
    if crops % data_devices or crops % jax.process_count():
        raise UserError(
            f"The {crops} crops of a step cannot be split over {data_devices} devices; "
            "change config.data.crops."
        )
    grid = np.array(in_order(jax.devices())).reshape((data_devices, level_devices))
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def in_order(devices: Sequence[Any]) -> list[Any]:
    """Devices with those of each process side by side, so that a row of levels lies within one.

    `jax.make_mesh` orders by the network of a TPU pod, where rows may span hosts. To a step's one
    large collective, which is over all devices, the order makes no difference.
    """
    return sorted(devices, key=lambda device: (device.process_index, device.id))


def join_processes(*, coordinator: str, processes: int, process: int) -> None:
    """Joins this process to others that train together; does nothing for one process.

    Args:
      coordinator: HOST:PORT of process 0, or "auto" on a cluster that JAX detects (SLURM, TPU
        pods and similar).
      processes, process: number of processes, and the index of this one, from 0.
    """
    if not coordinator:
        if processes > 1:
            raise UserError("Give --coordinator=HOST:PORT, the address of process 0.")
        return
    try:
        if coordinator == "auto":
            jax.distributed.initialize()
        else:
            if not 0 <= process < processes:
                raise UserError(f"--process is {process}; it must lie in 0 to {processes - 1}.")
            jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"The processes could not join through {coordinator} "
            f"({str(error).splitlines()[0]}); check --coordinator, --processes and --process."
        ) from None


def state_shardings(mesh: Mesh, state: Any, *, split: bool) -> Any:
    """The sharding of each leaf of a training state.

    Args:
      mesh: devices.
      state: arrays or their shapes.
      split: split each leaf over all devices along its longest divisible axis; leaves without
        one, few and small, are replicated. If False, all are replicated.

    Returns:
      A pytree of shardings of the same structure.
    """

    def spec(leaf) -> PartitionSpec:
        sizes = [size if size % mesh.size == 0 else 0 for size in leaf.shape]
        if not split or not any(sizes):
            return PartitionSpec()
        return PartitionSpec(*(None,) * sizes.index(max(sizes)), AXES)

    return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf)), state)


def local_copy(mesh: Mesh, tree: Any) -> Any:
    """This process's own whole copy of a pytree; a collective call: every process must make it."""
    whole = NamedSharding(mesh, PartitionSpec())
    if not all(leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)):
        tree = jax.jit(lambda tree: tree, out_shardings=whole)(tree)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def place_batch(mesh: Mesh, batch: dict[str, np.ndarray], form: BatchForm) -> dict[str, jax.Array]:
    """Places a process's share of a batch on its devices."""
    specs = batch_specs(batch, form)
    return {
        name: jax.make_array_from_process_local_data(NamedSharding(mesh, specs[name]), value)
        for name, value in batch.items()
    }
