"""Checkpoints of a training run. The only home of Orbax.

Orbax writes to this machine alone: it knows gs:// but not s3://, and only with packages that
nothing else here needs. Where the workdir is in a store, it writes to a temporary folder, and a
`CheckpointMirror` takes each checkpoint from there to the store.
"""

import contextlib
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from hypernet_jax.errors import UserError
from hypernet_jax.files import first_free, temporary_folder
from hypernet_jax.mirror import CheckpointMirror
from hypernet_jax.model import make_model, model_config
from hypernet_jax.storage import storage_path

__all__ = ["Checkpoints", "checkpoint_steps", "has_checkpoint", "load_ema"]

T = TypeVar("T")


class _State(Protocol):
    """A pytree of arrays."""

    @property
    def step(self) -> Any:
        """Number of steps done."""


S = TypeVar("S", bound=_State)


def checkpoint_steps(workdir: str | Path) -> list[int]:
    """The steps at which a training run has left checkpoints, readable or not, in their order."""
    workdir = storage_path(workdir)
    if not isinstance(workdir, Path):
        return CheckpointMirror(workdir, keep=1).steps()
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


def has_checkpoint(workdir: str | Path) -> bool:
    """Whether a training run has left a checkpoint, readable or not."""
    return bool(checkpoint_steps(workdir))


class Checkpoints:
    """State, data position and config of a run, under WORKDIR/checkpoints.

    Saves are asynchronous and atomic: a checkpoint appears under its final name
    only when it is whole. Use as a context manager; leaving it waits for saves.

    Args:
      workdir: of the run.
      keep: the newest checkpoints to keep when others are saved, for the run itself, which also
        removes what a killed one was writing; None to read only.

    Raises:
      UserError: where several processes would train with a workdir in a store.
    """

    def __init__(self, workdir: str | Path, *, keep: int | None = None):
        self._workdir = storage_path(workdir)
        self._mirror: CheckpointMirror | None = None
        self._temporary = contextlib.ExitStack()
        if isinstance(self._workdir, Path):
            self._workdir = self._workdir.absolute()
            self._folder = self._workdir / "checkpoints"
        else:
            if jax.process_count() > 1:
                raise UserError(
                    f"Several processes cannot write their checkpoint to {workdir} together; give "
                    "a --workdir that all of them see as a folder, such as a mounted bucket."
                )
            self._mirror = CheckpointMirror(self._workdir, keep=keep or 1)
            self._folder = self._temporary.enter_context(temporary_folder()) / "checkpoints"
            try:
                self._mirror.fetch_newest(self._folder)
            except BaseException:
                self._temporary.close()
                raise
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                # A store has the others.
                preservation_policy=ocp.checkpoint_managers.LatestN(1 if self._mirror else keep),
                enable_async_checkpointing=True,
                cleanup_tmp_directories=keep is not None,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        try:
            with self._failures_as_sentences():
                if self._mirror is not None:
                    self._mirror.wait()
                self._manager.wait_until_finished()
        finally:
            if self._mirror is not None:
                self._mirror.close()
            self._manager.close()
            self._temporary.close()

    @contextlib.contextmanager
    def _failures_as_sentences(self):
        """Turns a failed save, this one or an earlier one that ended meanwhile, into a sentence."""
        try:
            yield
        except UserError:
            raise
        # TensorStore reports a full disk as ValueError or RuntimeError, Python as OSError.
        except Exception as error:
            complete = self._manager.all_steps(read=True)
            kept = f"the checkpoint of step {max(complete)} is kept" if complete else "none is kept"
            raise UserError(
                f"A checkpoint could not be written to {self._folder} ({_reason(error)}); "
                f"make room or give access and start again: {kept}."
            ) from None

    def asked_to_stop(self, step: int) -> bool:
        """Whether one of several processes was asked to stop (SIGTERM); all agree on the step.

        Only after `jax.distributed.initialize`; a process by itself listens for the signal.
        """
        return self._manager.reached_preemption(step)

    def save(
        self,
        state: _State,
        data_iterator,
        config_json: str,
        *,
        beside: Callable[[int], Mapping[str, bytes]] = lambda step: {},
    ) -> None:
        """Saves at the state's own step; does nothing if that step is saved already.

        Args:
          state: of the training.
          data_iterator: whose position is saved.
          config_json: what `restore` gives to its `check`.
          beside: step -> contents of files by their paths in a workdir in a store, to be written
            before the checkpoint is complete; not called for a local workdir.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        with self._failures_as_sentences():
            if self._mirror is not None:
                self._mirror.wait()
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    data=grain.checkpoint.CheckpointSave(data_iterator),
                    config=ocp.args.JsonSave(json.loads(config_json)),
                ),
            )
        if self._mirror is not None:
            self._mirror.send(
                step,
                self._folder / str(step),
                beside(step),
                ready=self._manager.wait_until_finished,
            )

    def restore(self, state: S, data_iterator, check: Callable[[dict[str, Any]], None]) -> S:
        """Returns the newest readable state and puts `data_iterator` at its position.

        Args:
          state: a state of the same structure, for shapes, types and placement;
            returned as it is when there is no checkpoint yet.
          data_iterator: the pipeline's iterator; changed in place.
          check: is given the config that was trained with, and raises `UserError`
            if the run must not go on from it.

        A damaged checkpoint is reported, moved out of the way to WORKDIR/damaged, and
        the one before it is taken. In a store it stays until the run gets there again.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)

        def read(step: int) -> S:
            failure = None
            try:
                check(self._config(step))
                self._check_processes(step)
                self._check_position(step)
            except UserError:
                raise
            except Exception as error:
                failure = error
            # Before the state is read, for which all processes wait for each other.
            if not self._true_for_all(step, failure is None):
                raise failure or ValueError("another process cannot read its part")
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract),
                    data=grain.checkpoint.CheckpointRestore(data_iterator),
                ),
            )
            return restored["state"]

        newest = max(self._manager.all_steps(), default=-1)
        if not self._true_for_all(newest, newest >= 0):
            return state
        restored, damaged = self._newest_readable(read)
        # Only now: a file system that fails for a moment must not cost the whole run.
        if jax.process_index() == 0:
            for step in damaged:
                self._set_aside(step)
        if damaged:
            if jax.process_count() > 1:
                multihost_utils.sync_global_devices("damaged checkpoints set aside")
            self._manager.reload()
        return restored

    def read_ema(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns (config, averaged theta) of the newest readable checkpoint."""
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])

        def read(step: int) -> tuple[dict[str, Any], dict[str, Any]]:
            config = self._config(step)
            model = make_model(model_config(config))
            theta = model.shapes()
            abstract = {
                "ema": jax.tree.map(
                    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
                    theta,
                )
            }
            # A manager that has not restored whole states may restore a part of one.
            with ocp.CheckpointManager(self._folder) as manager:
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

        return self._newest_readable(read)[0]

    def _config(self, step: int) -> dict[str, Any]:
        # Not by Orbax, in which all processes wait for each other: it may fail in one alone.
        return json.loads((self._folder / str(step) / "config" / "metadata").read_text())

    def _check_processes(self, step: int) -> None:
        """Raises `UserError` if another number of processes wrote the data's position."""
        files = (self._folder / str(step) / "data").glob("process_*-of-*.json")
        written = {int(file.stem.rpartition("-")[2]) for file in files}
        if written and written != {jax.process_count()}:
            raise UserError(
                f"The run in {self._workdir} was trained by {max(written)} processes, each "
                f"with its own part of the data, and not by {jax.process_count()}; go on with "
                f"--processes={max(written)}, or start again in another workdir."
            )

    def _check_position(self, step: int) -> None:
        """Raises `OSError` or `ValueError` if this process' position cannot be read."""
        name = f"process_{jax.process_index()}-of-{jax.process_count()}.json"
        json.loads((self._folder / str(step) / "data" / name).read_text())

    def _true_for_all(self, step: int, here: bool) -> bool:
        """Whether it is true in all processes of the run, which must ask together.

        Raises:
          UserError: if they ask for different steps.
        """
        if jax.process_count() == 1:
            return here
        steps, answers = multihost_utils.process_allgather(np.asarray([step, here])).T
        if len(set(steps.tolist())) > 1:
            raise UserError(
                f"The processes of this run see different checkpoints in {self._folder} (steps "
                f"{sorted(set(steps.tolist()))}); start again when the folder is the same for all."
            )
        return bool(answers.all())

    def _newest_readable(self, read: Callable[[int], T]) -> tuple[T, list[int]]:
        """What `read` makes of the newest step that it can read, and the steps passed over."""
        damaged: list[int] = []
        kept = self._workdir / "checkpoints"
        for step in self._steps():
            try:
                return read(step), damaged
            except UserError:
                raise
            # What a damaged file makes Orbax, TensorStore or Grain raise is not documented.
            except Exception as error:
                warnings.warn(
                    f"The checkpoint {kept / str(step)} is damaged and passed over "
                    f"({_reason(error)}).",
                    stacklevel=3,
                )
                damaged.append(step)
        raise UserError(
            f"No checkpoint in {kept} can be read (steps {damaged}); look at the disk, "
            "restore the folder from a copy, or start again in another workdir."
        )

    def _steps(self) -> Iterator[int]:
        """The steps of all checkpoints, the newest first; a store's are fetched one by one."""
        steps = sorted(self._manager.all_steps(), reverse=True)
        yield from steps
        while self._mirror is not None and steps:
            found = self._mirror.fetch_newest(self._folder, before=steps[-1])
            if found is None:
                return
            self._manager.reload()
            steps.append(found)
            yield found

    def _set_aside(self, step: int) -> None:
        """Keeps a damaged checkpoint, but where it no longer counts as the newest."""
        aside = self._folder.parent / "damaged"
        aside.mkdir(exist_ok=True)
        again = (aside / f"{step}-{n}" for n in itertools.count(2))
        target = first_free(itertools.chain([aside / str(step)], again))
        (self._folder / str(step)).rename(target)


def _reason(error: Exception) -> str:
    """The kind of an error and the first line of what it says."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first[:160]}"


def load_ema(workdir: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads (config, averaged theta) of the newest checkpoint of a run.

    Raises:
      UserError: if there is none, or none can be read.
    """
    if not has_checkpoint(workdir):
        raise UserError(
            f"There is no complete checkpoint in {workdir}; give the workdir of a training run."
        )
    with Checkpoints(workdir) as checkpoints:
        return checkpoints.read_ema()
