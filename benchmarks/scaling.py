"""Times a training step on 1, 2, 4 and 8 CPU devices, and in 1 and 2 processes.

    python benchmarks/scaling.py [--rounds 5]

The work is the same in every row. Virtual devices of a machine share its cores, so
more of them cannot be faster: the figures show the overhead of splitting. Each row
runs in its own processes, because the number of devices is fixed at the first use of
JAX. On a machine with accelerators `--platform gpu` uses these instead. Last line:
JSON with `ratio_to_one` for each row.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

from timing import print_table

# (devices per process, devices along the level axis, processes)
LAYOUTS = ((1, 1, 1), (2, 1, 1), (2, 2, 1), (4, 2, 1), (8, 1, 1), (8, 2, 1), (8, 4, 1), (1, 1, 2))


def worker(args) -> None:
    """Times steps in this process; process 0 prints them."""
    import jax
    import numpy as np

    from hypernet_jax.data.levels import BatchForm
    from hypernet_jax.model import make_model, model_config
    from hypernet_jax.training.mesh import join_processes, make_mesh, place_batch, state_shardings
    from hypernet_jax.training.optimizer import make_optimizer
    from hypernet_jax.training.recipes import recipe
    from hypernet_jax.training.step import init_state, make_train_step

    if args.platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", args.devices)
    join_processes(coordinator=args.coordinator, processes=args.processes, process=args.process)
    config = recipe("compact")
    config.task, config.levels.normalisation = "denoise", "per_hundred"
    model = make_model(model_config(config))
    crops = 8
    mesh = make_mesh(level_devices=args.level_devices, levels=4, crops=crops)
    optimizer = make_optimizer(config.optimizer, config.steps)
    state = init_state(model.init(jax.random.key(0)), optimizer)
    shardings = state_shardings(mesh, state, split=args.shard_state)
    state = jax.device_put(state, shardings)
    form = BatchForm(own_crops=False)
    step = make_train_step(
        model=model, optimizer=optimizer, mesh=mesh, seed=0, decay=0.999, form=form,
        shardings=shardings,
    )  # fmt: skip
    share = crops // args.processes
    batch = place_batch(
        mesh,
        {
            "clean": np.random.default_rng(0).integers(0, 256, (share, 64, 64, 3), np.uint8),
            "ids": np.arange(share, dtype=np.int32),
            "levels": np.float32([[10], [30], [60], [90]]),
        },
        form,
    )
    times = []
    for _ in range(args.rounds + 1):
        start = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch))
        times.append(time.perf_counter() - start)
    if args.process == 0:
        print(json.dumps({"seconds": statistics.median(times[1:])}))


def measure(layout, args) -> float:
    devices, level_devices, processes = layout
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, __file__, "--worker", f"--devices={devices}", f"--rounds={args.rounds}",
        f"--level-devices={level_devices}", f"--processes={processes}",
        f"--platform={args.platform}",
    ]  # fmt: skip
    if processes > 1:
        command.append(f"--coordinator=localhost:{port}")
    if args.shard_state:
        command.append("--shard-state")
    root = str(Path(__file__).parent.parent)
    started = [
        subprocess.Popen(
            [*command, f"--process={process}"],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        for process in range(processes)
    ]
    texts = [process.communicate(timeout=600)[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"The layout {layout} failed.")
    return json.loads(texts[0].splitlines()[-1])["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--platform", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--shard-state", action="store_true", help="also split the state")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--devices", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--level-devices", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--processes", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--process", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--coordinator", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args)
        return
    layouts = LAYOUTS if args.platform == "cpu" else ((1, 1, 1),)
    seconds = {layout: measure(layout, args) for layout in layouts}
    one = seconds[layouts[0]]
    print_table(
        ["processes", "devices each", "data x level", "step s", "to one device"],
        [[p, d, f"{d * p // level}x{level}", s, s / one] for (d, level, p), s in seconds.items()],
        {
            "ratio_to_one": {
                f"{p}x{d // level}x{level}": s / one for (d, level, p), s in seconds.items()
            }
        },
    )


if __name__ == "__main__":
    main()
