"""The training run: phases from config to the last checkpoint."""

import contextlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm

from hypernet_jax.checkpoints import Checkpoints
from hypernet_jax.data.pipeline import LevelSampler, make_pipeline
from hypernet_jax.data.prepare import default_dataset, open_split
from hypernet_jax.errors import UserError
from hypernet_jax.model import Model, make_model, model_config
from hypernet_jax.training.config import check_config, config_difference
from hypernet_jax.training.optimizer import make_optimizer, make_schedule
from hypernet_jax.training.reports import MetricsWriter
from hypernet_jax.training.step import init_state, make_train_step
from hypernet_jax.training.validation import Validation

__all__ = ["train"]


def _make_iterator(config, model: Model, dataset: Path):
    sampler = LevelSampler(
        low=config.levels.low,
        high=config.levels.high,
        count=config.levels.count,
        fixed=tuple(config.levels.fixed),
    )
    return make_pipeline(
        open_split(dataset, "train"),
        seed=config.seed,
        crops=config.data.crops,
        crop_size=config.data.crop_size,
        colours=model.colours,
        sampler=sampler,
        degrade=None if model.task.on_device else model.task.degrade,
        threads=config.data.threads,
    )


@contextlib.contextmanager
def _stop_on_signal():
    """Yields a function that tells whether SIGTERM or Ctrl-C has asked for a stop."""
    asked = []
    previous = {}
    with contextlib.suppress(ValueError):  # not in the main thread: leave signals alone
        for number in (signal.SIGTERM, signal.SIGINT):
            previous[number] = signal.signal(number, lambda *_: asked.append(True))
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check_same_run(config, saved: dict[str, Any], workdir: Path) -> None:
    difference = config_difference(saved, json.loads(config.to_json()))
    if difference:
        raise UserError(
            f"The workdir {workdir} holds a checkpoint of another config "
            f"({'; '.join(difference)}); give another --workdir or the same values."
        )


def train(config, workdir: str | Path, *, progress: bool = True) -> dict[str, Any]:
    """Trains, or goes on training, until `config.steps`.

    Args:
      config: an `ml_collections.ConfigDict` with the fields of configs/.
      workdir: folder for checkpoints, metrics.jsonl and TensorBoard events. If it
        holds a checkpoint of the same config, training resumes there.
      progress: draw a progress bar.

    Returns:
      The final training state. SIGTERM and Ctrl-C save a checkpoint and return early.
    """
    check_config(config)
    workdir = Path(workdir).absolute()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The workdir {workdir} cannot be made ({error.strerror}).") from None
    config_json = config.to_json()

    model = make_model(model_config(config))
    dataset = Path(config.data.dataset) if config.data.dataset else default_dataset()
    iterator = _make_iterator(config, model, dataset)
    optimizer = make_optimizer(config.optimizer, config.steps)
    schedule = make_schedule(config.optimizer, config.steps)
    state = init_state(jax.random.key(config.seed), model, optimizer)
    train_step = make_train_step(
        model=model, optimizer=optimizer, seed=config.seed, decay=config.ema_decay
    )
    validation = Validation(model, open_split(dataset, "validation"), config.validation)

    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(Checkpoints(workdir, keep=config.checkpoint.keep))
        state = checkpoints.restore(
            state, iterator, lambda saved: _check_same_run(config, saved, workdir)
        )
        start = step = int(state["step"])
        writer = stack.enter_context(MetricsWriter(workdir, resume_step=start))
        stop = stack.enter_context(_stop_on_signal())
        bar = stack.enter_context(
            tqdm.tqdm(
                total=config.steps,
                initial=start,
                desc=model.task.name,
                disable=not progress,
                # In a log file, where every refresh is a line, refresh seldom.
                mininterval=0.1 if sys.stderr.isatty() else 30.0,
            )
        )
        since, since_step, images = time.perf_counter(), step, 0
        while step < config.steps and not stop():
            batch = next(iterator)
            state, metrics = train_step(state, batch)
            step += 1
            images += config.data.crops * len(batch["levels"])
            bar.update()
            last = step == config.steps
            if step % config.log_every == 0 or last:
                values = {name: float(value) for name, value in metrics.items()}
                elapsed = time.perf_counter() - since
                values |= {
                    "learning_rate": float(schedule(step - 1)),
                    "images_per_second": images / elapsed,
                    "steps_per_second": (step - since_step) / elapsed,
                }
                if not np.isfinite(values["loss"]):
                    raise UserError(
                        f"The loss became {values['loss']} before step {step}; lower "
                        "config.optimizer.learning_rate and start again; "
                        "the last checkpoint is kept."
                    )
                writer.write(step, values)
                bar.set_postfix_str(
                    f"loss {values['loss']:.4f}, {values['psnr']:.2f} dB, "
                    f"{values['images_per_second']:.0f} images/s"
                )
                since, since_step, images = time.perf_counter(), step, 0
            if step % config.validation.every == 0 or last:
                pause = time.perf_counter()
                writer.write(step, validation(state["ema"]))
                since += time.perf_counter() - pause
            if step % config.checkpoint.every == 0 or last:
                checkpoints.save(state, iterator, config_json)
        checkpoints.save(state, iterator, config_json)
    return state
