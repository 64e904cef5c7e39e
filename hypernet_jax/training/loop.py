"""The training run: phases from config to the last checkpoint."""

import contextlib
import json
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import tqdm
from jax.sharding import Mesh

from hypernet_jax.checkpoints import Checkpoints, has_checkpoint
from hypernet_jax.data.cache import CachedImages
from hypernet_jax.data.levels import BatchForm, LevelSampler
from hypernet_jax.data.pipeline import Crops, check_host_device, make_pipeline
from hypernet_jax.data.prepare import (
    check_crop_size,
    default_dataset,
    fingerprint,
    folders_of,
    has_split,
    local_dataset,
    open_split,
)
from hypernet_jax.errors import UserError
from hypernet_jax.hypernet import Theta
from hypernet_jax.levels import LevelSpace
from hypernet_jax.model import Model, make_model, model_config
from hypernet_jax.runtime import ordinary_arithmetic, start_jax
from hypernet_jax.signals import ENDING
from hypernet_jax.storage import storage_path
from hypernet_jax.tasks import get_task
from hypernet_jax.trained_levels import check_trained_levels, notes_on
from hypernet_jax.training.config import check_config, config_difference, flatten
from hypernet_jax.training.cost import StepCost, step_cost
from hypernet_jax.training.distillation import Teachers, load_teachers
from hypernet_jax.training.freezing import freeze
from hypernet_jax.training.initial import initial_theta
from hypernet_jax.training.loggers import make_loggers
from hypernet_jax.training.mesh import local_copy, make_mesh, place_batch, state_shardings
from hypernet_jax.training.optimizer import make_optimizer, make_schedule
from hypernet_jax.training.profiling import Profile
from hypernet_jax.training.reports import Meter, metrics_writer
from hypernet_jax.training.step import TrainState, init_state, make_train_step
from hypernet_jax.training.validation import Validation
from hypernet_jax.training.workdir import alone_in, checked_workdir

__all__ = ["make_iterator", "make_parts", "make_sampler", "make_start", "train"]

# What a checkpoint's config holds beside the fields of configs/.
_DATASET, _TEACHERS = "dataset_fingerprint", "teachers_fingerprint"
_LEVELS = "trained_levels"


def make_sampler(config) -> LevelSampler:
    """Draws the levels of a step as a training config says."""
    levels, space = config.levels, get_task(config.task).space
    return LevelSampler(
        low=levels.low,
        high=levels.high,
        count=levels.count,
        power=levels.power,
        whole=levels.whole,
        absent=levels.absent,
        neutral=space.neutral.values,
        fixed=tuple(map(tuple, space.array(levels.fixed).tolist())),
        form=BatchForm(per=levels.per, own_crops=levels.own_crops),
    )


def make_parts(config) -> tuple[Model, LevelSampler, Mesh]:
    """Model, drawn levels and devices of a training config.

    Raises:
      UserError: if levels or crops do not divide evenly over the devices.
    """
    model = make_model(
        model_config(config),
        compute_dtype=config.compute_dtype,
        level_form=config.level_form,
        remat=config.remat,
    )
    sampler = make_sampler(config)
    mesh = make_mesh(
        level_devices=config.level_devices, levels=sampler.levels, crops=config.data.crops
    )
    return model, sampler, mesh


def make_start(
    config, model: Model, mesh: Mesh, form: BatchForm, theta: Theta, teachers: Teachers | None
) -> tuple[TrainState, Callable[[TrainState, dict], tuple[TrainState, dict[str, jax.Array]]]]:
    """The initial state of a run, on its devices, and its train step."""
    optimizer = make_optimizer(config.optimizer, config.steps)
    if config.frozen:
        optimizer = freeze(optimizer, theta, config.frozen)
    state = init_state(theta, optimizer)
    shardings = state_shardings(mesh, state, split=config.shard_state)
    step = make_train_step(
        model=model,
        optimizer=optimizer,
        mesh=mesh,
        seed=config.seed,
        decay=config.ema_decay,
        form=form,
        loss=config.loss,
        weighting=config.levels.weighting,
        balance=config.balance,
        teachers=teachers,
        shardings=shardings,
    )
    return jax.device_put(state, shardings), step


def make_iterator(config, model: Model, dataset: Path, sampler: LevelSampler):
    """This process' batches of a training run."""
    source, chain = open_split(dataset, "train"), model.task.degradation
    if not chain.traceable:
        check_host_device(config.task)
    return make_pipeline(
        CachedImages(source, capacity=int(config.data.cache_gib * 2**30), name=dataset),
        seed=config.seed,
        crops=config.data.crops // jax.process_count(),
        cut=Crops(
            size=config.data.crop_size,
            colours=model.colours,
            grey=config.data.grey,
            recoloured=config.data.recoloured,
            darkened=config.data.darkened,
            softened=config.data.softened,
        ),
        sampler=sampler,
        largest_share=config.data.largest_share,
        groups=folders_of(dataset) if config.data.largest_share < 1.0 else (),
        degradation=None if chain.traceable else (chain, model.task.space),
        threads=config.data.threads,
        process=jax.process_index(),
        processes=jax.process_count(),
    )


@contextlib.contextmanager
def _stop_on_signal(asked: threading.Event):
    """In a single process, SIGTERM, Ctrl-C and the end of a terminal only set `asked`.

    A second Ctrl-C does what it did before. Of several processes JAX listens itself, see
    `Checkpoints.asked_to_stop`.
    """
    previous: dict[int, Any] = {}

    def ask(number: int, frame: Any) -> None:
        del frame
        if number == signal.SIGINT and asked.is_set():
            signal.signal(number, previous[number])
            signal.raise_signal(number)
        asked.set()

    if jax.process_count() == 1 and threading.current_thread() is threading.main_thread():
        for number in ENDING:
            # Under nohup they stay ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check_same_run(
    given: dict[str, Any], saved: dict[str, Any], workdir: Any, space: LevelSpace
) -> None:
    """Raises `UserError` where a run would go on with other data, teachers, levels or config."""
    for mark, group, name, other in (
        (_DATASET, "data", "dataset", "another dataset"),
        (_TEACHERS, "distillation", "teachers", "other teachers"),
    ):
        if saved.pop(mark, None) != given.pop(mark):
            raise UserError(
                f"The run in {workdir} was trained with {other} so far; give the same as "
                f"config.{group}.{name}, or another --workdir."
            )
        # The same, even if it was moved.
        given[group][name] = saved[group][name]
    del given[_LEVELS]
    trained = saved.pop(_LEVELS, None)
    difference = config_difference(saved, given)
    if difference:
        longer = (
            " To train a finished run further, write its weights with `hypernet-jax weights`, and "
            "give them as config.initial_weights in another --workdir."
        )
        raise UserError(
            f"The workdir {workdir} holds a checkpoint of another config "
            f"({'; '.join(difference)}); give another --workdir or the same values."
            + longer
            * any(each.startswith("config.steps ") for each in difference)
        )
    if trained is not None:
        check_trained_levels(trained, space)


def _check_profile(profile: tuple[int, int] | None, *, done: int, steps: int) -> None:
    """Raises `UserError` if none of the steps to trace is still to be done."""
    if profile is not None and (profile[0] > steps or profile[1] <= done):
        raise UserError(
            f"The steps to profile, {profile[0]}:{profile[1]}, are not among those still to be "
            f"done, {done + 1} to {steps}; give others."
        )


def _next_batch(iterator) -> Any:
    try:
        return next(iterator)
    except UserError as error:
        # Grain adds lines about its frames.
        raise UserError(str(error).splitlines()[0]) from None


def _on_host(metrics: dict[str, jax.Array]) -> dict[str, float]:
    return {name: float(x) for name, x in jax.device_get(metrics).items()}


def _check_finite(what: str, values: Any, step: int) -> None:
    """Raises `UserError` for a tree of numbers or arrays some of which are not finite."""
    if not _all_finite(values):
        raise UserError(
            f"{what} not finite at step {step}; lower config.optimizer.learning_rate and start "
            "again in another workdir, or check what a degradation of your own returns; "
            "checkpoints that were saved before are kept."
        )


@jax.jit
def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _summary(model: Model, cost: StepCost) -> str:
    """A line on what is trained and what a step of it costs."""
    counts = model.parameter_counts()
    return (
        f"{counts['generated_parameters']:,} parameters per level, "
        f"{counts['trainable_parameters']:,} trained; a step takes {cost.flops / 1e9:,.1f} GFLOP "
        f"and {cost.bytes_per_device / 1e6:,.0f} MB on each device"
    )


@ordinary_arithmetic()
def train(
    config,
    workdir: str | Path,
    *,
    progress: bool = True,
    profile: tuple[int, int] | None = None,
    stop: threading.Event | None = None,
) -> TrainState:
    """Trains, or goes on training, until `config.steps`.

    Args:
      config: an `ml_collections.ConfigDict` with the fields of configs/.
      workdir: folder or address for checkpoints, metrics and TensorBoard events. If it
        holds a checkpoint of the same config, training resumes there.
      progress: draw a progress bar, and a line on what a step costs.
      profile: first and last step to trace, from 1; the trace goes to WORKDIR/profile.
      stop: set by SIGTERM, Ctrl-C and SIGHUP, for a caller that trains several times; one that
        is set already stops the run.

    Returns:
      The final training state. The signals save a checkpoint and return early.
    """
    start_jax()
    check_config(config)
    workdir = storage_path(workdir)
    if isinstance(workdir, Path):
        workdir = workdir.absolute()
    with checked_workdir(workdir):
        return _train(config, workdir, progress, profile, stop or threading.Event())


def _train(
    config, workdir: Any, progress: bool, profile: tuple[int, int] | None, stop: threading.Event
) -> TrainState:
    if profile is not None and not isinstance(workdir, Path):
        raise UserError("A trace needs a workdir on this machine; give one, or no --profile.")
    _check_profile(profile, done=0, steps=config.steps)
    model, sampler, mesh = make_parts(config)
    dataset = local_dataset(config.data.dataset) if config.data.dataset else default_dataset()
    iterator = make_iterator(config, model, dataset, sampler)
    teachers = load_teachers(config, model)
    described = model_config(config)
    marks = {
        _DATASET: fingerprint(dataset),
        _TEACHERS: teachers.fingerprint if teachers else "",
        _LEVELS: described[_LEVELS],
    }
    config_json = json.dumps(json.loads(config.to_json()) | marks)
    check_crop_size(dataset, config.data.crop_size)
    # A run that goes on has all it needs in its checkpoint; its first weights may be gone.
    begun = has_checkpoint(workdir)
    theta = model.init(jax.random.key(config.seed)) if begun else initial_theta(config, model)
    state, train_step = make_start(config, model, mesh, sampler.form, theta, teachers)
    schedule = make_schedule(config.optimizer, config.steps)
    validation, first = None, jax.process_index() == 0
    if first and has_split(dataset, "validation"):
        validation = Validation(model, open_split(dataset, "validation"), config.validation)
    elif first and progress:
        print(
            f"Note: {dataset} has no held-out photographs, so nothing is validated; prepare it "
            "with --held-out 1 or more for that.",
            file=sys.stderr,
        )

    if first and progress:
        for note in notes_on(described[_LEVELS]):
            print(f"Note: {note}", file=sys.stderr)

    with contextlib.ExitStack() as stack:
        # Of several processes, the first one writes and validates.
        if first:
            stack.enter_context(alone_in(workdir))
        # Until the last checkpoint is written.
        stack.enter_context(_stop_on_signal(stop))
        checkpoints = stack.enter_context(Checkpoints(workdir, keep=config.checkpoint.keep))
        state = checkpoints.restore(
            state,
            iterator,
            lambda saved: _check_same_run(
                json.loads(config_json), saved, workdir, model.task.space
            ),
        )
        start = step = int(state.step)
        _check_profile(profile, done=start, steps=config.steps)
        loggers: list[Any] = []
        if first:
            fields = flatten(config.to_dict())
            loggers += make_loggers(config.loggers, str(workdir), fields, resumed=begun)
        for logger in loggers:
            stack.callback(logger.close)
        writer = metrics_writer(workdir, resume_step=start if begun else None) if first else None
        if writer is not None:
            loggers.insert(0, stack.enter_context(writer))
        bar = stack.enter_context(
            tqdm.tqdm(
                total=config.steps,
                initial=start,
                desc=model.task.name,
                disable=not progress or not first,
                # In a log file, where every refresh is a line, refresh seldom.
                mininterval=0.1 if sys.stderr.isatty() else 30.0,
            )
        )

        traced = stack.enter_context(Profile(Path(workdir) / "profile", profile))
        saved, cost = None, None

        def validate() -> None:
            ema = local_copy(mesh, state.ema)
            if writer is not None and validation is not None:
                validated = validation(ema)
                _check_finite("The validation is", validated, step)
                for logger in loggers:
                    logger.write(step, validated)

        def save() -> int:
            # The loss of a step is that of the parameters before it.
            _check_finite("The parameters are", state.theta, step)
            beside = writer.take if writer is not None else lambda step: {}
            checkpoints.save(state, iterator, config_json, beside=beside)
            return step

        def asked() -> bool:
            if jax.process_count() > 1 and checkpoints.asked_to_stop(step):
                stop.set()
            return stop.is_set()

        if config.initial_weights and not begun:  # what the run has to surpass
            validate()
        meter = Meter()
        while step < config.steps and not asked():
            with meter.waiting():
                batch = _next_batch(iterator)
            placed = place_batch(mesh, batch, sampler.form)
            if cost is None:
                with meter.paused():
                    cost = step_cost(train_step, state, placed)
                if progress and first:
                    bar.write(_summary(model, cost), file=sys.stderr)
                    bar.set_postfix_str("compiling")
            # Nothing may stop for the host between here and the next log step.
            with traced.step(step + 1), jax.transfer_guard("disallow"):
                state, metrics = train_step(state, placed)
            step += 1
            traced.after(step, metrics)
            meter.count(images=config.data.crops * sampler.levels)
            bar.update()
            last = step == config.steps
            saving = last or step % config.checkpoint.every == 0
            if saving or step % config.log_every == 0:
                values = _on_host(metrics)
                _check_finite("The loss or its gradient is", values, step)
            if last or step % config.log_every == 0:
                rates = meter.rates()
                rates |= cost.rates(rates["steps_per_second"])
                values |= {"learning_rate": float(schedule(step - 1)), **rates}
                for logger in loggers:
                    logger.write(step, values)
                bar.set_postfix_str(
                    f"loss {values['loss']:.4f}, {values['psnr']:.2f} dB, "
                    f"{values['images_per_second']:.0f} images/s"
                )
                meter = Meter()
            if last or step % config.validation.every == 0:
                with meter.paused():
                    validate()
            if saving:
                saved = save()
        if step != saved:  # stopped between two checkpoints, or before the first step
            if step > start:
                _check_finite("The loss or its gradient is", _on_host(metrics), step)
            save()
    if step < config.steps:
        print(
            f"Stopped at step {step} of {config.steps} and saved; the same command goes on.",
            file=sys.stderr,
        )
    elif first and progress:
        print(
            f"The run in {workdir} is complete: it has {step} steps. Write its weights with "
            f"`hypernet-jax weights {shlex.quote(str(workdir))} -o FILE.safetensors`.",
            file=sys.stderr,
        )
    return state
