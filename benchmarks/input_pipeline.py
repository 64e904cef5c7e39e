"""Measures whether the input pipeline keeps up with the training step.

    python benchmarks/input_pipeline.py [--config configs/denoise.py:compact] [--batches 40]
        [--dataset DATASET] [--threads 2]

The pipeline and the step are timed separately, then together, as in training.
Training does not wait if the pipeline alone is at least 1.5 times as fast. Last
line: JSON with `ratio_to_step` (batches per step) and `data_wait`, the fraction of
the training time spent waiting.
"""

import argparse
import statistics
import time
from pathlib import Path

import jax
from timing import print_table

from hypernet_jax.cli.info import load_config
from hypernet_jax.data.prepare import default_dataset
from hypernet_jax.model import make_model, model_config
from hypernet_jax.training.loop import make_iterator, make_sampler
from hypernet_jax.training.mesh import make_mesh, place_batch, state_shardings
from hypernet_jax.training.optimizer import make_optimizer
from hypernet_jax.training.reports import Meter
from hypernet_jax.training.step import init_state, make_train_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", nargs="*", default=[])
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--dataset", default="", help="default: the small default dataset")
    parser.add_argument("--threads", type=int, default=0, help="default: as in the config")
    args = parser.parse_args()
    tasks = ("denoise", "dejpeg", "super_resolution")
    names = args.config or [f"configs/{task}.py:compact" for task in tasks]

    rows, summary = [], {}
    for name in names:
        config = load_config(name)
        model = make_model(model_config(config), compute_dtype=config.compute_dtype)
        dataset = Path(args.dataset) if args.dataset else default_dataset()
        config.data.threads = args.threads or config.data.threads
        sampler = make_sampler(config)
        mesh = make_mesh(level_devices=1, levels=sampler.levels, crops=config.data.crops)
        optimizer = make_optimizer(config.optimizer, config.steps)
        state = init_state(model.init(jax.random.key(0)), optimizer)
        state = jax.device_put(state, state_shardings(mesh, state, split=False))
        step = make_train_step(
            model=model,
            optimizer=optimizer,
            mesh=mesh,
            seed=0,
            decay=config.ema_decay,
            loss=config.loss,
            weighting=config.levels.weighting,
            balance=config.balance,
            form=sampler.form,
        )
        batches = make_iterator(config, model, dataset, sampler)
        placed = place_batch(mesh, next(batches), sampler.form)
        state, _ = jax.block_until_ready(step(state, placed))

        alone, steps = [], []
        # A fresh iterator has nothing prefetched; its threads stop when it is dropped.
        source = make_iterator(config, model, dataset, sampler)
        next(source)
        for _ in range(args.batches):
            start = time.perf_counter()
            next(source)
            alone.append(time.perf_counter() - start)
        del source
        for _ in range(args.batches):
            start = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, placed))
            steps.append(time.perf_counter() - start)
        meter = Meter()
        for _ in range(args.batches):
            with meter.waiting():
                batch = next(batches)
            state, _ = step(state, place_batch(mesh, batch, sampler.form))
            meter.count(images=config.data.crops * sampler.levels)
        jax.block_until_ready(state)
        rates = meter.rates()
        ratio = statistics.median(steps) / statistics.fmean(alone)
        rows.append(
            [name, statistics.fmean(alone), statistics.median(steps), ratio, rates["data_wait"]]
        )
        summary[name] = {"ratio_to_step": ratio, "data_wait": rates["data_wait"]}
    print_table(
        ["config", "batch s", "step s", "batches per step", "data wait"],
        rows,
        {
            "ratio_to_step": min(value["ratio_to_step"] for value in summary.values()),
            "data_wait": max(value["data_wait"] for value in summary.values()),
            "configs": summary,
        },
    )


if __name__ == "__main__":
    main()
