"""A task with several parts needs only its entry in the registry."""

import dataclasses
import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from hypernet_jax import BLUR_SIGMA, JPEG_QUALITY, NOISE_SIGMA, LevelSpace, Restorer, UserError
from hypernet_jax.cli.main import main
from hypernet_jax.degradations import BLUR, JPEG, NOISE, QUANTISE, Chain, degrade_example
from hypernet_jax.evaluation.measure import evaluate
from hypernet_jax.evaluation.report import write_report
from hypernet_jax.model import make_model, model_config
from hypernet_jax.tasks import TASKS, Protocol
from hypernet_jax.training.loop import make_iterator, make_sampler, train
from hypernet_jax.training.recipes import task_recipe
from hypernet_jax.weights import load_weights, save_weights

# The first is traced and runs on the device, the second on the host.
CHAINS = {
    "shot": (Chain(BLUR, NOISE, QUANTISE), LevelSpace.of(NOISE_SIGMA, BLUR_SIGMA)),
    "sent": (Chain(NOISE, QUANTISE, JPEG), LevelSpace.of(NOISE_SIGMA, JPEG_QUALITY)),
}
HIGH = {"shot": (50.0, 2.0), "sent": (50.0, 90.0)}
LOW = {"shot": (0.0, 0.0), "sent": (0.0, 10.0)}


@pytest.fixture(params=CHAINS, autouse=True)
def task(request, monkeypatch):
    chain, space = CHAINS[request.param]
    strong = dict(zip(space.names, (25.0, 2.0 if request.param == "shot" else 30.0), strict=True))
    entry = dataclasses.replace(
        TASKS["denoise"],
        name=request.param,
        title="Two damages at once",
        space=space,
        degradation=chain,
        protocols={"all": Protocol("both, in the order of life", chain)},
        levels=(strong, {"noise": 10}),
        demo_levels=(strong,) * 3,
        starting_level=strong,
        estimate=None,
    )
    monkeypatch.setitem(TASKS, request.param, entry)
    return entry


def tiny_config(task, dataset="") -> ConfigDict:
    config = task_recipe(
        "compact",
        task.name,
        drawn=(LOW[task.name], HIGH[task.name]),
        published=task.levels,
        validated=task.levels,
        compact_steps=4,
    )
    config.network.channels, config.network.blocks = 4, 1
    config.levels.count = 2
    config.validation.update({"every": 4, "images": 2, "crop_size": 32})
    config.data.update({"dataset": str(dataset), "crop_size": 16, "crops": 2})
    config.checkpoint.every = 4
    return config


def weights_of(task, path, features="affine"):
    config = model_config(tiny_config(task)) | {"features": {"name": features, "degree": 2}}
    theta = make_model(config).init(jax.random.key(0))
    theta = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(jax.random.key(1), x.shape), theta)
    save_weights(path, theta, config)
    return path


def test_it_trains(task, default_data, tmp_path):
    config = tiny_config(task, default_data)
    config.levels.per = {"shot": "crop", "sent": "step"}[task.name]
    config.levels.absent = (0.5, 0.25)
    state = train(config, tmp_path, progress=False)
    assert int(state.step) == 4
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    first, second = (task.space.parse(level) for level in task.levels)
    assert {f"validation/psnr_{first}", f"validation/psnr_{second}"} < lines[-1].keys()
    restorer = Restorer.from_workdir(tmp_path)
    image = np.zeros((9, 11, 3), np.uint8)
    assert restorer.restore(image, level=first).shape == image.shape


def test_its_batches_are_the_same_for_any_number_of_threads(task, default_data):
    config = tiny_config(task, default_data)
    model, sampler = make_model(model_config(config)), make_sampler(config)
    batches = []
    for threads in (1, 3):
        config.data.threads = threads
        iterator = make_iterator(config, model, default_data, sampler)
        batches.append([next(iterator) for _ in range(3)])
    chex.assert_trees_all_equal(*batches)
    batch = batches[0][0]
    assert batch["levels"].shape == (2, 2)
    assert ("degraded" in batch) == (task.name == "sent")
    if "degraded" in batch:
        assert batch["degraded"].dtype == np.uint8
        assert (batch["degraded"] != batch["clean"]).any()


def test_restoring_evaluating_and_exporting(task, photograph, tmp_path, capsys):
    features = {"shot": "polynomial", "sent": "affine"}[task.name]
    weights = weights_of(task, tmp_path / "toy.safetensors", features)
    image = photograph[:40, :60]
    source, output = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(image).save(source)
    level = task.space.parse(task.starting_level)
    main(["restore", str(source), f"--weights={weights}", f"--level={level}", "-o", str(output)])
    restorer = Restorer.from_pretrained(weights)
    assert restorer.backend.name == "onnxruntime"
    live = Restorer.from_pretrained(weights, backend="jax")
    expected = live.apply(image[None] / np.float32(255), level=level)
    found = restorer.apply(image[None] / np.float32(255), level=dict(level.named))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with pytest.raises(SystemExit):
        main(["restore", str(source), f"--weights={weights}", "--level=25", "-o", str(output)])
    assert "does not name its parts" in capsys.readouterr().err

    folder = tmp_path / "set"
    folder.mkdir()
    Image.fromarray(image).save(folder / "a.png")
    results = evaluate(live, folder, levels=live.space.parse_list("noise=5; noise=20"))
    assert [row["level"]["noise"] for row in results["rows"]] == [5.0, 20.0]
    _, table, curve = write_report(results, tmp_path / "report")
    assert "| noise=5," in table.read_text() and curve.stat().st_size > 5000

    onnxruntime = pytest.importorskip("onnxruntime")
    file = tmp_path / "toy.onnx"
    main(["export", f"--weights={weights}", "--format=onnx", "-o", str(file)])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    planes = (image.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)
    (made,) = session.run(None, {"image": planes, "level": level.array})
    np.testing.assert_allclose(made.transpose(0, 2, 3, 1), expected, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["level_parts"]) == list(task.space.names)
    file = tmp_path / "toy.stablehlo"
    main(["export", f"--weights={weights}", "--format=stablehlo", "-o", str(file)])
    program = jax.export.deserialize(file.read_bytes())
    made = program.call(image[None] / np.float32(255), level.array)
    np.testing.assert_allclose(made, expected, atol=1e-4)

    baked = tmp_path / "baked.safetensors"
    main(["export", f"--weights={weights}", "--format=safetensors", f"--level={level}",
          "-o", str(baked)])  # fmt: skip
    plain = Restorer.from_pretrained(baked, backend="jax")
    assert plain.space.only is not None
    np.testing.assert_allclose(
        plain.apply(image[None] / np.float32(255), level={}), expected, atol=1e-5
    )


def test_options_of_its_config_have_a_value_for_each_part(task, default_data, tmp_path):
    config = tiny_config(task, default_data)
    assert config.levels.low == LOW[task.name]
    assert len(config.levels.normalisation) == len(config.levels.power) == 2
    config.levels.high = (50.0, 60.0, 70.0)
    with pytest.raises(UserError, match=r"levels.high .* levels of this task have 2 parts"):
        train(config, tmp_path, progress=False)
    model, _ = load_weights(weights_of(task, tmp_path / "toy.safetensors"))
    assert [axis.far for axis in model.task.space.axes] == [axis.far for axis in task.space.axes]


def test_operators_take_their_own_part_and_a_key_of_their_own(task, photograph):
    image, key = photograph[:32, :48], jax.random.key(3)
    level = {"noise": 20.0, "jpeg": 30.0, "blur": 1.5}
    whole = np.asarray(task.degradation(key, image, level))
    apart = image
    for operator in task.degradation.operators:
        apart = Chain(operator)(key, apart, level)
    # Only one of them draws, so it gets the chain's key.
    np.testing.assert_allclose(whole, apart, atol=1.0)
    assert (whole == apart).mean() > 0.999 and whole.dtype == np.float32
    assert task.degradation.traceable == (task.name == "shot")
    assert task.degradation.axes == (
        ("blur", "noise") if task.name == "shot" else ("noise", "jpeg")
    )
    twice = Chain(NOISE, NOISE)(key, np.zeros((64, 64, 1)), {"noise": 10.0})
    assert np.std(twice) == pytest.approx(10 * np.sqrt(2), rel=0.05)
    traced = jax.jit(jax.vmap(Chain(BLUR, NOISE), in_axes=(None, None, 0)))
    levels = {"noise": jnp.array([0.0, 5.0]), "blur": jnp.array([1.0, 0.0])}
    both = traced(key, image, levels)
    chex.assert_trees_all_close(
        both[0], Chain(BLUR)(None, image, {"blur": 1.0}), rtol=1e-4, atol=1e-3
    )


def test_grey_examples_are_degraded_without_colour(task, photograph):
    grey = np.repeat(photograph[:32, :32, :1], 3, axis=-1)
    level = task.space.parse(task.starting_level).named
    degraded = np.asarray(degrade_example(task.degradation, jax.random.key(0), grey, level))
    assert degraded.shape == grey.shape and (degraded == degraded[..., :1]).all()
    assert np.abs(degraded - grey).mean() > 3
    colour = degrade_example(task.degradation, jax.random.key(0), photograph[:32, :32], level)
    assert not (np.asarray(colour) == np.asarray(colour)[..., :1]).all()
