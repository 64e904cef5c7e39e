"""Tasks of the user's own: registered, loaded by every command, and checked."""

import dataclasses
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from hypernet_jax import (
    LevelAxis,
    LevelSpace,
    Protocol,
    UserError,
    get_task,
    make_model,
    plugins,
    save_weights,
    tasks,
)
from hypernet_jax.cli.main import main
from hypernet_jax.degradations import NOISE, QUANTISE, Chain, Operator
from hypernet_jax.degradations.host import each_with_generator
from hypernet_jax.model import model_config
from hypernet_jax.networks import registry
from hypernet_jax.normalisation import NORMALISATIONS, register_normalisation
from hypernet_jax.runtime import start_jax
from hypernet_jax.trained_levels import notes_on
from hypernet_jax.training.config import check_config
from hypernet_jax.training.loop import _check_same_run
from hypernet_jax.training.recipes import task_recipe
from hypernet_jax.training.trial import check_degradation

from .commands import refuse
from .conftest import REPOSITORY
from .models import tiny_theta
from .page_commands import fenced

PAGE = (REPOSITORY / "docs/tutorials/add_a_task.md").read_text()
GAIN = LevelAxis("gain", "gain", "", 1.0, 4.0, 1.0, "scale_loss")
_RNG = np.random.default_rng(0)
BLUR = LevelAxis("blur", "blur sigma", "pixels", 0.0, 2.0, 0.0, "blur_loss")


@pytest.fixture
def registries():
    """What a test registers is gone afterwards."""
    held = tasks.TASKS, NORMALISATIONS, registry._NETWORKS
    before = [dict(each) for each in held]
    begun, loaded = set(plugins._begun), set(plugins._loaded)
    yield
    for each, content in zip(held, before, strict=True):
        each.clear()
        each.update(content)
    for names, before in ((plugins._begun, begun), (plugins._loaded, loaded)):
        names.clear()
        names.update(before)


@pytest.fixture
def impulse(tmp_path, monkeypatch, registries):
    """A folder with the files of the tutorial, whose task is a plugin."""
    task, _, config, *_ = fenced(PAGE, "python")
    (tmp_path / "impulse.py").write_text(task)
    (tmp_path / "impulse_config.py").write_text(config)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYPERNET_JAX_PLUGINS", "impulse.py")
    yield tmp_path
    sys.modules.pop("impulse", None)


def test_every_command_knows_the_task_of_a_plugin(impulse, photograph, capsys):
    main(["info", "--config", "impulse_config.py:compact"])
    described = json.loads(capsys.readouterr().out)
    assert described["task"] == "impulse" and described["trained_levels"] == {"share": [0, 0.5]}
    config = model_config(task_recipe(
        "compact", "impulse", drawn=(0.0, 0.4), published=(), validated=(0.1,), compact_steps=9
    ))  # fmt: skip
    config["network"] |= {"channels": 4, "blocks": 1}
    save_weights("w.safetensors", tiny_theta(config), config)
    Image.fromarray(photograph[:64, :80]).save("in.png")
    main(["restore", "in.png", "--weights", "w.safetensors", "--level", "0.2", "-o", "out.png"])
    assert Image.open("out.png").size == (80, 64)
    refused = refuse(capsys, "restore", "in.png", "--weights", "w.safetensors", "-o", "o.png")
    assert "a share of pixels from 0 to 0.5." in refused
    main(["info", "--weights", "w.safetensors"])
    assert json.loads(capsys.readouterr().out)["trained_levels"] == {"share": [0, 0.4]}
    main(["export", "--weights", "w.safetensors", "--format", "stablehlo", "-o", "w.bin"])
    assert "impulse" in capsys.readouterr().out
    evaluated = [sys.executable, REPOSITORY / "evaluate.py", "--weights=w.safetensors"]
    (impulse / "clean").mkdir()
    Image.fromarray(photograph[:64, :80]).save("clean/a.png")
    evaluated += ["--dataset=clean", "--levels=0.1"]
    done = subprocess.run(evaluated, capture_output=True, text=True, check=False)
    assert "level: share of pixels." in done.stdout, done.stderr
    script = "import hypernet_jax; print(hypernet_jax.load_weights('w.safetensors')[0].task.title)"
    for environment, expected in (({}, "salt-and-pepper"), (None, "Unknown task 'impulse'")):
        command = [sys.executable, "-c", script]
        if environment is None:
            command = ["env", "-u", "HYPERNET_JAX_PLUGINS", *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert expected in done.stdout + done.stderr


def test_a_plugin_that_is_imported_already(impulse):
    """In Python a user imports it, too; and it may call what loads plugins."""
    (impulse / "nested.py").write_text(
        "from hypernet_jax import UserError, get_task, load_weights\n"
        "load_weights('denoise')\n"
        "try:\n    get_task('none')\nexcept UserError as error:\n    print(error)\n"
    )
    scripts = {
        "import impulse; load_weights('denoise'); print('well')": "well",
        "load_weights('denoise'); import impulse; print('well')": "well",
        "import nested; print('well')": "Unknown task 'none'; choose one of denoise",
    }
    for script, expected in scripts.items():
        names = "./impulse.py:impulse.py" + (":nested.py" if "nested" in script else "")
        script = f"from hypernet_jax import load_weights; {script}"
        command = ["env", f"HYPERNET_JAX_PLUGINS={names}", sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert expected in done.stdout, done.stdout + done.stderr


def test_other_threads_wait_for_a_plugin(impulse):
    content = (impulse / "impulse.py").read_text()
    (impulse / "impulse.py").write_text(f"import time\ntime.sleep(1)\n{content}")

    def title():
        start_jax()
        return get_task("impulse").title

    with ThreadPoolExecutor(2) as pool:
        titles = list(pool.map(lambda _: title(), range(2)))
    assert titles[0] == titles[1]


def test_a_plugin_is_loaded_again_after_it_failed(impulse):
    content = (impulse / "impulse.py").read_text()
    (impulse / "impulse.py").write_text("1 / 0")
    for _ in range(2):
        with pytest.raises(UserError, match="ZeroDivisionError"):
            start_jax()
    (impulse / "impulse.py").write_text(content)
    start_jax()
    assert get_task("impulse").space.names == ("share",)


def test_help_needs_no_plugins(monkeypatch, capsys):
    monkeypatch.setenv("HYPERNET_JAX_PLUGINS", "none.py")
    for command in (["--help"], ["--version"], ["info", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(command)
        assert ended.value.code == 0
    capsys.readouterr()


def test_the_noise_of_the_tutorial(impulse, photograph):
    plugins.load_plugins()
    chain = get_task("impulse").degradation
    damaged = np.asarray(chain(jax.random.key(0), photograph, {"share": 0.2}))
    changed = (damaged != photograph).any(axis=-1)
    assert changed.mean() == pytest.approx(0.2, abs=0.01)
    assert set(np.unique(damaged[changed])) == {0, 255}
    assert np.mean(damaged[changed] == 0) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(chain(jax.random.key(0), photograph, {"share": 0.0}), photograph)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.py", None, "There is no plugin none.py"),
        ("no_such_module", None, "give a file, such as no_such_module.py"),
        ("broken.py", "import hypernet_jax\n1 / 0\n", "ZeroDivisionError: division by zero"),
        ("wrong.py", "def f(:\n", "SyntaxError"),
        ("json.py", "", "the name of another module"),
        ("leaves.py", "import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_plugins_that_cannot_be_loaded(name, content, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    monkeypatch.setenv("HYPERNET_JAX_PLUGINS", name)
    assert words in refuse(capsys, "info", "--weights", "denoise")
    assert name.removesuffix(".py") not in sys.modules or name == "json.py"


def task_of(*operators, space=None, **changes):
    """A task that fits together, with some fields changed."""
    chain = Chain(*operators) if operators else Chain(NOISE)
    space = space or LevelSpace.of(get_task("denoise").space.single)
    fields = {"degradation": chain, "protocols": {"8-bit": Protocol("", chain)}, "space": space}
    return dataclasses.replace(get_task("denoise"), **({"name": "own"} | fields | changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "denoise"}, "a task 'denoise' already"),
        ({"name": "salt and pepper"}, "cannot be called"),
        ({"name": 3}, "cannot be called"),
        ({"name": ["a"]}, "cannot be called"),
        ({"protocols": {}}, "at least one Protocol"),
        ({"protocols": 3}, "at least one Protocol"),
        ({"protocols": {"a": NOISE}}, "protocol a is no Protocol"),
        ({"protocols": {"a": Protocol("", NOISE)}}, "protocol a is no chain"),
        ({"degradation": NOISE}, "its degradation is no chain"),
        ({"degradation": Chain(Operator(jnp.add, axis="nois"))}, "takes the part 'nois'"),
        ({"levels": (2.0, 101.0)}, "101 is out of range"),
        ({"levels": 3}, "give a tuple of levels"),
        ({"demo_levels": "noise=2"}, "give a tuple of levels"),
        ({"degradation": Chain(QUANTISE)}, "no operator of its degradation takes the part 'noise'"),
        ({"demo_levels": (1, 2)}, "give three"),
        ({"starting_level": -1}, "-1 is out of range"),
        ({"enlarges_by": "scale"}, "enlarges_by is 'scale'"),
        ({"space": GAIN}, "its space is none"),
    ],
)
def test_tasks_that_contradict_themselves(changes, words, registries):
    with pytest.raises(UserError, match=words):
        tasks.register_task(task_of(**changes))
    with pytest.raises(UserError, match="no task"):
        tasks.register_task(3)
    tasks.register_task(task_of())
    assert get_task("own").title == get_task("denoise").title


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"low": 5.0}, "low <= neutral <= high"),
        ({"neutral": 5.0}, "low <= neutral <= high"),
        ({"neutral": None}, "finite numbers"),
        ({"high": float("inf")}, "finite numbers"),
        ({"low": "0"}, "finite numbers"),
        ({"step": 0}, "must be positive"),
        ({"name": "a,b=c"}, "cannot be called"),
        ({"name": ""}, "cannot be called"),
        ({"name": "auto"}, "stands for an estimate"),
        ({"normalisation": "cubic"}, "Unknown normalisation"),
        ({"normalisation": ["cubic"]}, "Unknown normalisation"),
    ],
)
def test_axes_that_are_none(changes, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(GAIN, **changes)


def test_what_is_no_operator_or_axis():
    for make, words in (
        (lambda: Chain(), "at least one operator"),
        (lambda: Chain(jnp.add), "joins operators"),
        (lambda: Chain([NOISE, QUANTISE]), "joins operators"),
        (lambda: Operator(3), "needs a function"),
        (lambda: Operator(Unhashable(0.5)), "must be hashable"),
        (lambda: Operator(jnp.add, axis=GAIN), "the name of one"),
        (lambda: LevelSpace.of((GAIN,)), "made of axes"),
        (lambda: LevelSpace(GAIN), "made of axes"),
    ):
        with pytest.raises(UserError, match=words):
            make()


def test_a_normalisation_of_ones_own(registries):
    register_normalisation("halved", lambda level: level / 2)
    assert float(dataclasses.replace(GAIN, normalisation="halved").normalise(3.0)) == 1.5
    with pytest.raises(UserError, match="already"):
        register_normalisation("halved", lambda level: level / 3)
    with pytest.raises(UserError, match="a name and a function"):
        register_normalisation("thirds", 3)


def scaled(key, image, value):
    return image * value


def careless(key, image, value):
    """Draws, but not from its key."""
    return image + _RNG.normal(size=image.shape)


def per_image(key, image, value):
    return image[..., :8, :, :]


MISTAKES = {
    "needs a key": Operator(lambda key, image, value: image + jax.random.normal(key, image.shape)),
    "traceable=False.*line": Operator(lambda key, image, value: np.asarray(image), axis="gain"),
    "jnp.where": Operator(lambda key, image, value: image if value > 0 else -image, axis="gain"),
    "keep the shape": Operator(per_image, axis="gain"),
    "gets no value": Operator(scaled),
    "returns nothing": Operator(lambda key, image, value: None),
    "fails on an image": Operator(lambda image, value: image, axis="gain"),
    "fails on an image .*unexpected keyword": Operator(
        lambda key, image, value: image * jnp.sum(image, axes=0), axis="gain"
    ),
    "does not use its key": Operator(careless, random=True),
    "in 0\\.\\.1": Operator(lambda key, image, value: jnp.clip(image / 255, 0, 1), axis="gain"),
    "not finite at 1": Operator(lambda key, image, value: image / (value - 1), axis="gain"),
    "different images for the same key": Operator(careless, random=True, traceable=False),
    "is said to be random": Operator(scaled, axis="gain", random=True),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes_in_an_operator_are_found_before_training(words, registries):
    operator = MISTAKES[words]
    space = LevelSpace.of(GAIN)
    others = () if operator.axis else (Operator(scaled, axis="gain"),)
    levels = {"levels": (2,), "demo_levels": (1, 2, 3), "starting_level": 2}
    own = task_of(operator, *others, space=space, **levels)
    tasks.register_task(own)
    config = task_recipe(
        "compact", "own", drawn=(1.0, 4.0), published=(), validated=(2.0,), compact_steps=9
    )
    with pytest.raises(UserError, match=f"(?s)The operator .* of the task own.*{words}"):
        check_config(config)


@dataclasses.dataclass
class Unhashable:
    """A function that is an object."""

    share: float

    def __call__(self, key, image, value):
        return image * self.share


def columns(key, image, value):
    return each_with_generator(lambda rng, one: one * rng.random((one.shape[1], 1)), key, image)


def blurred(key, image, value):
    """A wide kernel, which needs an image that is larger."""
    padded = jnp.pad(image, [(0, 0)] * (image.ndim - 3) + [(24, 24), (24, 24), (0, 0)], "reflect")
    return padded[..., 24:-24, 24:-24, :] + 0 * padded[..., :1, :1, :]


VALID = {
    "plain": Operator(scaled, axis="gain"),
    "host": Operator(columns, random=True, traceable=False),
    "random": Operator(
        lambda key, image, value: image + value * jax.random.normal(key, image.shape),
        axis="gain", random=True,
    ),
    "of JAX arrays": Operator(lambda key, image, value: image.at[..., 0, :].set(value),
                              axis="gain"),
    "of arrays of values": Operator(lambda key, image, value: image * value[..., None],
                                    axis="gain"),
    "of NumPy numbers": Operator(
        lambda key, image, value: image * value.astype(np.float32), axis="gain", traceable=False
    ),
    "colours": Operator(lambda key, image, value: image @ jnp.eye(3)),
    "wide": Operator(blurred),
    "unhashable": Operator(Unhashable(0.5), traceable=False),
}  # fmt: skip


@pytest.mark.parametrize("name", VALID)
def test_operators_without_a_mistake(name):
    own = task_of(VALID[name], space=LevelSpace.of(GAIN))
    check_degradation(own, side=48, colours=3)


def test_operators_of_the_package():
    for task in tasks.TASKS.values():
        for colours in (3, 1):
            check_degradation(task, side=32, colours=colours)


def test_levels_that_mean_something_else_are_refused(registries, tmp_path):
    space = LevelSpace.of(GAIN, BLUR)
    fields = {"levels": ("gain=2",), "demo_levels": ("gain=2",) * 3, "starting_level": "gain=2"}
    both = Operator(scaled, axis="gain"), Operator(scaled, axis="blur")
    tasks.register_task(task_of(*both, space=space, **fields))
    config = task_recipe(
        "compact", "own", drawn={"blur": (0, 1), "gain": (1, 3)}, published=(), validated=({},),
        compact_steps=9,
    )  # fmt: skip
    assert config.levels.low == (1.0, 0.0) and config.levels.high == (3.0, 1.0)
    described = model_config(config)
    assert [(each["low"], each["high"]) for each in described["trained_levels"]] == [(1, 3), (0, 1)]
    make_model(described)
    others = {
        "parts gain, blur, but those of the task are now blur, gain": LevelSpace.of(BLUR, GAIN),
        "parts gain, blur, but those of the task are now gain, soft": LevelSpace.of(
            GAIN, dataclasses.replace(BLUR, name="soft")
        ),
    }
    for words, other in others.items():
        del tasks.TASKS["own"]
        taken = [Operator(scaled, axis=name) for name in other.names]
        tasks.register_task(task_of(*taken, space=other, **fields))
        with pytest.raises(UserError, match=words):
            make_model(described)
    wider = LevelSpace.of(dataclasses.replace(GAIN, high=8.0), BLUR)
    del tasks.TASKS["own"]
    tasks.register_task(task_of(*both, space=wider, **fields))
    make_model(described)
    NORMALISATIONS["scale_loss"] = lambda level: level / 10
    with pytest.raises(UserError, match="normalisation of gain has changed"):
        make_model(described)
    del described["trained_levels"]
    make_model(described)


@pytest.mark.parametrize(
    ("drawn", "words"),
    [
        (((1.0, 3.0), (1.0, 2.0)), "The level 3 is out of range"),
        ({"gain": (1, 3)}, "pair of numbers for each of gain, blur"),
        ({"gain": (1, 3), "blur": 1}, "pair of numbers"),
        ((1.0,), "lowest level and the highest"),
        (4.0, "lowest level and the highest"),
    ],
)
def test_ranges_of_drawn_levels_that_are_none(drawn, words, registries):
    space = LevelSpace.of(GAIN, BLUR)
    fields = {"levels": ("gain=2",), "demo_levels": ("gain=2",) * 3, "starting_level": "gain=2"}
    both = Operator(scaled, axis="gain"), Operator(scaled, axis="blur")
    tasks.register_task(task_of(*both, space=space, **fields))
    with pytest.raises(UserError, match=words):
        check_config(
            task_recipe(
                "compact", "own", drawn=drawn, published=(), validated=({},), compact_steps=9
            )
        )


def test_notes_on_parts_that_hardly_vary():
    def record(name, low, high, *z):
        return {"name": name, "low": low, "high": high, "z": list(z)}

    varied = record("noise", 0.0, 50.0, 0.0, 0.25, 0.5)
    assert notes_on([varied]) == []
    assert notes_on([record("noise", 25.0, 25.0, 0.25, 0.25, 0.25)]) == []
    assert notes_on([varied, record("blur", 0.0, 2.0, 0.0, 0.5, 0.0)]) == []
    (note,) = notes_on([varied, record("blur", 0.0, 0.0, 0.0, 0.0, 0.0)])
    assert note.startswith("blur is always 0 in training")
    (note,) = notes_on([record("share", 0.0, 0.5, 0.0, 0.0025, 0.005)])
    assert "z of share goes only from 0 to 0.005" in note


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"levels.far": 50.0}, "config.levels.far was None and is now 50"),
        ({}, "normalisation of noise has changed"),
        (None, ""),
    ],
)
def test_a_run_goes_on_only_with_levels_that_mean_the_same(change, words, registries):
    config = task_recipe(
        "compact", "denoise", drawn=(0, 50), published=(), validated=(5.0,), compact_steps=9
    )
    marks = {"dataset_fingerprint": "a", "teachers_fingerprint": ""}
    saved = json.loads(config.to_json()) | marks | {
        "trained_levels": model_config(config)["trained_levels"]
    }  # fmt: skip
    if change is None:  # a checkpoint that does not record its levels
        del saved["trained_levels"]
    else:
        with config.ignore_type():
            config.update_from_flattened_dict(change)
    if not change:
        NORMALISATIONS["per_hundred"] = lambda level: level / 50
    described = model_config(config)
    given = json.loads(config.to_json()) | marks | {"trained_levels": described["trained_levels"]}
    space = make_model(described).task.space
    if words:
        with pytest.raises(UserError, match=words):
            _check_same_run(given, saved, "run", space)
    else:
        _check_same_run(given, saved, "run", space)
