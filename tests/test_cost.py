"""What a step costs, and traces of steps."""

import json

import jax
import jax.numpy as jnp
import pytest

from hypernet_jax import UserError, make_model
from hypernet_jax.training.cost import StepCost, peak_of, step_cost
from hypernet_jax.training.loop import train
from hypernet_jax.training.planning import cost_of_config
from hypernet_jax.training.profiling import Profile, parse_steps
from hypernet_jax.training.recipes import task_recipe

from .models import tiny_config, tiny_training_config


def test_the_cost_of_a_product():
    a, b = jnp.ones((64, 128)), jnp.ones((128, 32))
    product = jax.jit(jnp.dot)
    cost = step_cost(product, a, b)
    assert cost.flops == pytest.approx(2 * 64 * 128 * 32, rel=0.01)
    assert cost.bytes_per_device >= 4 * (64 * 128 + 128 * 32 + 64 * 32)
    assert cost.peak is None  # of this CPU
    assert cost.rates(10.0) == {"tflops_per_second": pytest.approx(10 * cost.flops / 1e12)}


def test_a_step_is_planned_with_the_cost_that_it_has(default_data, tmp_path, capfd):
    config = task_recipe(
        "compact", "dejpeg", drawn=(10.0, 60.0), published=(), validated=(20.0,), compact_steps=1
    )
    config.network.update({"channels": 4, "blocks": 1})
    config.data.update({"dataset": str(default_data), "crop_size": 32, "crops": 2})
    planned = cost_of_config(config)
    train(config, tmp_path)
    (line,) = (line for line in capfd.readouterr().err.splitlines() if "GFLOP" in line)
    shown = f"{planned.flops / 1e9:,.1f} GFLOP and {planned.bytes_per_device / 1e6:,.0f} MB"
    assert shown in line


def test_arithmetic_per_pixel():
    """Of a network of one convolution at half the resolution, with 4 channels, and its output."""
    config = tiny_config()
    config["network"] |= {"blocks": 0}
    convolutions = 9 * 4 * (3 + 4 + 12)  # head, end of the body, output
    flops = make_model(config).flops_per_pixel()
    assert flops == pytest.approx(2 * convolutions / 4, rel=0.1)


def test_utilisation_where_the_peak_is_known():
    rates = StepCost(flops=2e12, bytes_per_device=1, peak=100e12).rates(5.0)
    assert rates == {"tflops_per_second": 10.0, "mfu": 0.1}


@pytest.mark.parametrize(
    ("kind", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v5", 459),
        ("TPU v5e", 197),
        ("TPU v6e", 918),
        ("NVIDIA H1000", None),
        ("cpu", None),
    ],
)
def test_peaks_of_devices(kind, teraflops):
    assert peak_of(kind) == (None if teraflops is None else teraflops * 1e12)


def test_steps_to_trace_must_still_be_done(default_data, tmp_path):
    config = tiny_training_config(default_data)
    with pytest.raises(UserError, match="done, 1 to 6; give others"):
        train(config, tmp_path, profile=(7, 9))
    assert not (tmp_path / "checkpoints").exists()
    profile = Profile(tmp_path / "profile", (3, 5))
    with profile.step(4):  # of a run that resumes after step 3
        profile.after(4, jnp.zeros(()))
    with profile.step(5):
        profile.after(5, jnp.zeros(()))
    with profile.step(6):
        pass
    assert len(list((tmp_path / "profile").rglob("*.xplane.pb"))) == 1


def test_a_run_logs_its_rate_and_traces_the_steps_asked_for(default_data, tmp_path, capfd):
    state = train(tiny_training_config(default_data), tmp_path, profile=(3, 4))
    assert int(state.step) == 6
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["tflops_per_second"] > 0 for line in lines if "loss" in line)
    assert "parameters per level" in capfd.readouterr().err
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    names = set()
    for plane in jax.profiler.ProfileData.from_file(str(trace)).planes:
        for line in plane.lines:
            for event in line.events:
                if event.name.startswith("train"):
                    names |= {value for name, value in event.stats if name == "step_num"}
    assert names == {3, 4}


def test_asking_for_the_cost_compiles_nothing_twice():
    events = []

    def listen(name, duration, **_):
        events.append(name)

    step, x = jax.jit(lambda x: x * 2 + 1), jnp.arange(3.0)
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        step_cost(step, x)
        first = [name for name in events if "backend_compile" in name]
        step(x)
        both = [name for name in events if "backend_compile" in name]
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(first) == 1 and both == first


@pytest.mark.parametrize(
    ("text", "message"),
    [("7", "START:STOP"), ("a:b", "START:STOP"), ("0:3", "in order"), ("5:4", "in order")],
)
def test_steps_that_cannot_be_traced(text, message):
    with pytest.raises(UserError, match=message):
        parse_steps(text)
    assert parse_steps("3:3") == (3, 3)
