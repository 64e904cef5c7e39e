"""The command line: what commands print, write and refuse."""

import dataclasses
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hypernet_jax import NOISE_SIGMA, LevelSpace, Restorer, UserError, save_weights
from hypernet_jax.cli.info import load_config
from hypernet_jax.cli.main import main
from hypernet_jax.evaluation import report
from hypernet_jax.evaluation.measure import evaluate
from hypernet_jax.evaluation.report import finite, markdown_table, write_report
from hypernet_jax.evaluation.studies import requested_study
from hypernet_jax.images.folders import find_images
from hypernet_jax.model import make_model, model_config
from hypernet_jax.serve.studio import Studio
from hypernet_jax.tasks import TASKS
from hypernet_jax.training.config import check_config
from hypernet_jax.weights import shipped_tasks

from .commands import refuse
from .conftest import REPOSITORY
from .models import RESTORER, tiny_config, tiny_restorer, tiny_theta
from .scripts import run_script


@pytest.fixture
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(file, tiny_theta(tiny_config()), tiny_config())
    return str(file)


@pytest.fixture
def image(tmp_path, photographs):
    file = tmp_path / "photograph.png"
    Image.open(photographs / "coffee.png").crop((0, 0, 61, 40)).save(file)
    return file


def test_restore_one_file(weights, image, tmp_path, capsys):
    output = tmp_path / "out.png"
    assert (
        main(["restore", str(image), "--weights", weights, "--level", "25", "-o", str(output)]) == 0
    )
    assert Image.open(output).size == (61, 40)
    assert "61x40" in capsys.readouterr().out


def test_restore_several_files_into_a_folder(weights, image, tmp_path):
    second = tmp_path / "second.webp"
    Image.open(image).save(second)
    folder = tmp_path / "restored"
    main(
        [
            "restore",
            str(image),
            str(second),
            "--weights",
            weights,
            "--level",
            "9",
            "-o",
            str(folder),
        ]
    )
    assert sorted(path.name for path in folder.iterdir()) == ["photograph.png", "second.png"]


def test_restore_refuses_with_a_sentence(weights, image, tmp_path, capsys):
    output = tmp_path / "out.png"
    text = tmp_path / "text.png"
    text.write_text("not an image")
    truncated = tmp_path / "truncated.jpg"
    Image.open(image).save(truncated)
    truncated.write_bytes(truncated.read_bytes()[:700])
    taken = tmp_path / "taken.png"
    taken.write_text("precious")

    def refusal(source=image, *options, output=output, level="25"):
        return refuse(
            capsys,
            "restore",
            source,
            "--weights",
            weights,
            "--level",
            level,
            "-o",
            output,
            *options,
        )

    assert "no file" in refusal(tmp_path / "missing.png")
    assert "not an image" in refusal(text)
    assert "damaged" in refusal(truncated)
    assert "names a file" in refusal(tmp_path)
    assert "from 0 to 100 (8-bit grey levels)" in refusal(level="101")
    assert "from 0 to 100 (8-bit grey levels)" in refusal(level="-3")
    assert "not a number" in refusal(level="strong")
    assert "not a number" in refusal(level="")
    assert "cannot be written as .xyz" in refusal(output=tmp_path / "out.xyz")
    assert "cannot be written" in refusal(output=tmp_path / "nowhere" / "out.png")
    assert "already exists" in refusal(output=taken)
    assert taken.read_text() == "precious"
    assert "need a folder" in refuse(
        capsys, "restore", image, image, "--weights", weights, "--level", "5", "-o", output
    )
    assert "File name too long" in refusal(output=tmp_path / ("x" * 300 + ".png"))
    assert "takes --level" in refusal(image, "--scale", "2")
    assert "are for denoise" in refusal(image, "--task", "sr")
    assert not output.exists()
    assert "denoise, dejpeg, sr" in refuse(
        capsys, "restore", image, "--task", "dehaze", "--level", "5", "-o", output
    )
    assert "--task" in refuse(capsys, "restore", image, "--level", "5", "-o", output)
    assert "Give --level" in refuse(capsys, "restore", image, "--weights", weights, "-o", output)


def test_info_of_a_config_and_of_weights(weights, capsys):
    main(["info", "--config", f"{REPOSITORY}/configs/denoise.py:published"])
    counts = json.loads(capsys.readouterr().out)
    assert counts["generated_parameters"] == 1406787
    assert counts["trainable_parameters"] == 2588483
    main(["info", "--config", f"{REPOSITORY}/configs/denoise.py:published_grey"])
    counts = json.loads(capsys.readouterr().out)
    assert counts["generated_parameters"] == 1404481
    assert counts["trainable_parameters"] == 2586177
    assert "training_step" not in counts
    main(["info", "--weights", weights])
    described = json.loads(capsys.readouterr().out)
    assert described["trainable_parameters"] > 0
    assert described["network"]["name"] == "residual" and described["network"]["channels"] > 0
    assert "give --config" in refuse(capsys, "info", "--weights", weights, "--step")


def test_info_refuses_with_a_sentence(tmp_path, capsys):
    assert "base, compact, published" in refuse(
        capsys, "info", "--config", f"{REPOSITORY}/configs/denoise.py:huge"
    )
    assert "no config file" in refuse(capsys, "info", "--config", tmp_path / "none.py")
    (tmp_path / "bad.py").write_text("import nothing_like_this")
    assert "cannot be run" in refuse(capsys, "info", "--config", tmp_path / "bad.py")
    for text in ("def get_config(): return 3", "def get_config(): return {'a': 1}", "exit(0)"):
        (tmp_path / "bad.py").write_text(text)
        refuse(capsys, "info", "--config", tmp_path / "bad.py")
    assert "no weights" in refuse(capsys, "info", "--weights", "nothing")


def test_weights_have_the_ending_of_their_format(tmp_path, capsys):
    assert "like that" in refuse(capsys, "weights", tmp_path, "-o", tmp_path / "weights.bin")
    assert not list(tmp_path.iterdir())


VARIANTS = {
    "comparison": [
        "denoise-hypernetwork",
        "denoise-level_plane",
        "denoise-published",
        "dejpeg-dedicated",
        "sr-ends",
    ],
}


@pytest.mark.parametrize(
    ("config", "variant"),
    [
        (config, variant)
        for config in sorted((REPOSITORY / "configs").glob("*.py"))
        for variant in VARIANTS.get(config.stem, ["base", "unet", "published", "compact_grey"])
        + ([] if config.stem in VARIANTS else ["published_grey"])
    ],
    ids=lambda value: getattr(value, "stem", value),
)
def test_every_config_builds(config, variant):
    loaded = load_config(f"{config}:{variant}")
    check_config(loaded)
    model = make_model(model_config(loaded), compute_dtype=loaded.compute_dtype)
    assert model.parameter_counts()["generated_parameters"] > 1e5


def test_prepare_and_its_mistakes(tmp_path, photographs, capsys):
    folder = tmp_path / "photographs"
    folder.mkdir()
    assert "holds no image" in refuse(capsys, "prepare", folder, "-o", tmp_path / "ds")
    shutil.copy(photographs / "coffee.png", folder)
    shutil.copy(photographs / "chelsea.png", folder)
    main(["prepare", str(folder), "-o", str(tmp_path / "ds")])
    shown = capsys.readouterr()
    assert "train" in shown.out and "held out" not in shown.err
    shutil.copy(photographs / "rocket.jpg", folder)
    main(["prepare", str(folder), "-o", str(tmp_path / "ds"), "--overwrite"])
    assert "2 of them are held out for validation, which leaves 1 photo" in capsys.readouterr().err
    assert "already exists" in refuse(capsys, "prepare", folder, "-o", tmp_path / "ds")
    small = tmp_path / "small"
    assert main(["prepare", str(folder), "-o", str(small), "--size", "64"]) == 0
    capsys.readouterr()
    assert "The size" in refuse(capsys, "prepare", folder, "-o", tmp_path / "no", "--size", "0")
    (folder / "notes.png").write_text("not an image")
    assert "--strict" in refuse(capsys, "prepare", folder, "-o", tmp_path / "other", "--strict")


@pytest.fixture
def folder_of_images(tmp_path, photograph):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(photograph[:37, :51]).save(folder / "odd.png")
    Image.fromarray(photograph[50:90, 60:100, 1]).save(folder / "grey.png")
    return folder


@pytest.mark.parametrize(
    ("task", "protocol", "columns"),
    [
        ("denoise", "8-bit", set()),
        ("denoise", "float", set()),
        ("denoise", "grey", set()),
        ("dejpeg", "colour", {"psnr_b", "psnr_b_input"}),
        ("dejpeg", "grey", {"psnr_b", "psnr_b_input"}),
        ("sr", "y", set()),
    ],
)
def test_evaluation_results(task, protocol, columns, folder_of_images):
    restorer = tiny_restorer(task)
    levels = (2, 3.5) if task == "sr" else (20, "60")
    results = evaluate(restorer, folder_of_images, levels=levels, protocol=protocol, progress=False)
    assert results["task"] == task and results["protocol"] == protocol
    assert results["dataset"] == "images"
    assert [row["level"] for row in results["rows"]] == [float(level) for level in levels]
    for row in results["rows"]:
        assert row["images"] == 2
        assert {"psnr", "psnr_input", "ssim", "ssim_input"} | columns <= row.keys()
        assert [one["image"] for one in row["each"]] == ["grey.png", "odd.png"]
        for name in row.keys() - {"level", "images", "each"}:
            assert np.isfinite(row[name])
            assert row[name] == pytest.approx(np.mean([one[name] for one in row["each"]]))
    again = evaluate(
        restorer, folder_of_images, levels=levels[:1], protocol=protocol, progress=False
    )
    assert again["rows"] == results["rows"][:1]


@pytest.mark.parametrize("levels", ["15,25", [15, "25"], np.array([15, 25]), ("15", 25, 25.0)])
def test_levels_of_an_evaluation(levels, folder_of_images):
    results = evaluate(RESTORER, folder_of_images, levels=levels, progress=False)
    assert [row["level"] for row in results["rows"]] == [15.0, 25.0]
    (row,) = evaluate(RESTORER, folder_of_images, levels=15, progress=False)["rows"]
    assert row == results["rows"][0]


@pytest.mark.parametrize("seed", [-1, 2**31, 1.5, "1", True])
def test_seeds_of_an_evaluation(seed, folder_of_images):
    with pytest.raises(UserError, match=r"The seed .* is not valid"):
        evaluate(RESTORER, folder_of_images, levels=[15], seed=seed)


def test_damaged_images_are_refused_before_measuring(folder_of_images, monkeypatch):
    from hypernet_jax.evaluation import measure

    (folder_of_images / "z.png").write_bytes(b"no image")
    monkeypatch.setattr(measure, "restore_degraded", None)
    with pytest.raises(UserError, match=r"z\.png is not an image"):
        evaluate(RESTORER, folder_of_images, levels=[15])


def test_evaluation_of_tiny_images(tmp_path):
    Image.new("RGB", (100, 1)).save(tmp_path / "line.png")
    with pytest.raises(UserError, match="too small for the level 4"):
        evaluate(tiny_restorer("sr"), tmp_path, levels=[4], progress=False)
    results = evaluate(tiny_restorer("dejpeg"), tmp_path, levels=[20], progress=False)
    write_report(results, tmp_path / "report")
    row = json.loads((tmp_path / "report/results.json").read_text())["rows"][0]
    assert row["ssim"] is None and np.isfinite(row["psnr_b"])


def test_report_files(folder_of_images, tmp_path):
    results = evaluate(RESTORER, folder_of_images, levels=(10, 30), progress=False)
    files = write_report(results, tmp_path / "report")
    assert [file.name for file in files] == ["results.json", "results.md", "curve.png"]
    assert json.loads(files[0].read_text()) == json.loads(json.dumps(results))
    assert files[1].read_text() == markdown_table(results)
    assert "| 10 | 2 |" in files[1].read_text() and "8-bit protocol" in files[1].read_text()
    with pytest.raises(UserError, match=r"results.json already exists.*--overwrite"):
        write_report(results, tmp_path / "report")
    assert write_report(results, tmp_path / "report", overwrite=True) == files
    curve = np.asarray(Image.open(files[2]).convert("L"))
    assert curve.min() < 100 < curve.max()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_network_that_fails_on_an_image_is_reported(value, folder_of_images, monkeypatch):
    calls = itertools.count()

    def failing(restorer, images, *, level):
        del restorer, level
        return images + np.float32(value if next(calls) == 1 else 0.0)

    monkeypatch.setattr(Restorer, "apply", failing)
    with pytest.raises(UserError, match=r"The restored .*png at the level 10 is not finite"):
        evaluate(RESTORER, folder_of_images, levels=[10], progress=False)
    calls = itertools.count()
    with pytest.raises(UserError, match="The restored image at the level 10 is not finite"):
        requested_study(RESTORER, folder_of_images, levels=[10], requested=[10])


@pytest.mark.parametrize("name", ["x$_$y", "bad\udcff", "a\nb"])
def test_a_folder_of_any_name_is_reported(name, folder_of_images, tmp_path):
    folder = folder_of_images.rename(tmp_path / name)
    results = evaluate(RESTORER, folder, levels=(10,), progress=False)
    assert len(write_report(results, tmp_path / "report")) == 3


def test_a_report_that_cannot_be_drawn_keeps_the_figures(folder_of_images, tmp_path, monkeypatch):
    results = evaluate(RESTORER, folder_of_images, levels=(10,), progress=False)

    def failing(results):
        raise UserError(f"No curve of {results['dataset']}.")

    monkeypatch.setattr(report, "draw_curve", failing)
    with pytest.raises(UserError, match="No curve"):
        write_report(results, tmp_path / "report")
    assert json.loads((tmp_path / "report/results.json").read_text())["rows"]
    assert (tmp_path / "report/results.md").read_text() == markdown_table(results)


def test_ssim_that_is_not_defined_is_not_infinite(tmp_path):
    Image.new("RGB", (5, 5), (90, 80, 70)).save(tmp_path / "small.png")
    results = evaluate(RESTORER, tmp_path, levels=[10], progress=False)
    row = markdown_table(results).splitlines()[-1]
    assert row.count("–") == 2 and "nan" not in row and "inf" not in row
    assert markdown_table(finite(results)) == markdown_table(results)


COMPACT = f"--config={REPOSITORY}/configs/denoise.py:compact"
UNET = f"--config={REPOSITORY}/configs/photo.py:unet"


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("evaluate.py", ["--weights=denoise", "--dataset=.", "--seed=-1"], "--seed=-1"),
        ("train.py", [f"--config={__file__}", "--workdir=x"], "cannot be run"),
        ("evaluate.py", ["--weights=nothing", "--dataset=."], "no weights 'nothing'"),
        ("evaluate.py", ["--dataset=."], "either --workdir=DIR or --weights=NAME"),
        ("evaluate.py", ["--weights=denoise"], "--dataset=FOLDER"),
        (
            "evaluate.py",
            ["--weights=denoise", "--pairs=.", "--seed=1"],
            "leave --protocol and --seed out",
        ),
        (
            "evaluate.py",
            ["--weights=denoise", "--dataset=images", "--output=images/x"],
            "lies among the images",
        ),
        ("evaluate.py", ["--task=denoise", "--dataset=."], "one of --inputs and --results"),
        (
            "evaluate.py",
            ["--task=denoise", "--dataset=.", "--results=x", "--backend=jax"],
            "are for other programs; leave",
        ),
        ("train.py", [f"--config={REPOSITORY}/configs/denoise.py:huge", "--workdir=x"], "compact"),
        ("train.py", [COMPACT], "--workdir=DIR"),
        ("train.py", [COMPACT, "--workdir=x", "--config.step=3"], "did you mean"),
        ("train.py", [COMPACT, "--workdir=x", "--config.optimizer.lr=1"], "no field 'lr'"),
        ("train.py", ["--sweep=x", "--workdir=x", "--profile=1:2"], "without --sweep"),
        ("train.py", [UNET, "--workdir=x", "--config.network.name=residual"], "give one value"),
        # All fields of the levels' parts can be set.
        (
            "train.py",
            [
                UNET,
                "--workdir=x",
                "--config.levels.far=(1.0,5.0,2.0)",
                "--config.levels.origin=(0.0,None,0.0)",
            ],
            "and config.levels.far=1.0, z reaches",
        ),
    ],
)
def test_scripts_refuse_with_a_sentence(script, arguments, message):
    process = run_script(script, *arguments)
    assert process.returncode == 2, process.stderr
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["restore", "a.png", "-o", "b.png", "--levle", "3"], "--levle 3; did you mean --level?"),
        (["restore", "a.png", "-o", "b.png", "--levle=3"], "--levle=3; did you mean --level?"),
        (["serve", "--zzz"], "arguments: --zzz\n"),
        (["--wrong", "demo"], "arguments: --wrong\n"),
    ],
)
def test_an_unknown_option_gets_the_usage_of_its_command(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    command = next(each for each in arguments if not each.startswith("-"))
    assert error.startswith(f"usage: hypernet-jax {command} ") and message in error


def test_a_config_that_fails_without_a_word_is_reported(tmp_path):
    (tmp_path / "config.py").write_text("def get_config():\n    assert False\n")
    process = run_script("train.py", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path}")
    assert process.stderr.strip().endswith("error: The config file cannot be run (AssertionError).")


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_the_reason_why_a_config_fails_is_shown(error, tmp_path):
    text = f"def get_config():\n    raise {error.__name__}('one\\nmy reason')\n"
    (tmp_path / "config.py").write_text(text)
    process = run_script("train.py", f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path}")
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("error: The config file cannot be run (") and "my reason" in last
    assert "Traceback" not in process.stderr


def test_names_that_cannot_be_printed_stop_nothing(weights, image, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    names = [
        b"a.png",
        b"caf\xe9.png",
        b"z.png",
    ]  # the second in Latin-1, as in old archives
    for name in names:
        Image.open(image).save(os.fsdecode(os.fsencode(folder) + b"/" + name))
    command = ["restore", folder, "-o", tmp_path / "out", "--weights", weights, "--level", "9"]
    process = subprocess.run(
        [sys.executable, "-m", "hypernet_jax.cli.main", *map(str, command), "--jobs", "1"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"},
        timeout=200,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert r"caf\udce9.png" in process.stdout and "3 files: 3 restored" in process.stdout
    written = [os.fsencode(path.name) for path in (tmp_path / "out").iterdir()]
    assert sorted(written) == names


def test_a_folder_is_restored_beside_itself_past_links_to_nowhere(weights, image, tmp_path):
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.open(image).save(folder / "inside.png")
    (folder / "loop.png").symlink_to("loop.png")
    main(["restore", str(folder), "-o", str(tmp_path), "--weights", weights, "--level", "9"])
    assert Image.open(tmp_path / "inside.png").size == (61, 40)
    assert sorted(path.name for path in folder.iterdir()) == ["inside.png", "loop.png"]


def test_nothing_is_written_among_the_photographs(weights, image, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for place in ("one/x.png", "one/one/y.png", "two/x.png"):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        Image.open(image).save(place)
    rest = ("--weights", weights, "--level", "9", "--overwrite")
    assert "among the photographs" in refuse(capsys, "restore", "one", "-o", ".", *rest)
    assert "among the photographs" in refuse(capsys, "restore", "two", "one", "-o", ".", *rest)
    assert main(["restore", "one", "-o", "one/out", *rest]) == 0
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    results = ["one/out/one/y.png", "one/out/x.png"]
    assert names == ["one/one/y.png", *results, "one/x.png", "photograph.png", "two/x.png"]


def test_what_is_read_is_never_written(weights, image, tmp_path, monkeypatch, capsys):
    """Neither by the picture, its comparison nor the report, under any name, even if told to."""
    monkeypatch.chdir(tmp_path)
    Image.new("L", (61, 40), 255).save("mask.png")
    Path("levels.json").write_text('[{"file": "photograph.png", "level": 5}]')
    Path("p.json").symlink_to("photograph.png")
    Path("link.json").symlink_to("levels.json")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    plain = ("restore", "photograph.png", "--weights", weights, "--overwrite")
    one, by_table = (*plain, "--level", 9), (*plain, "--levels", "levels.json")
    masked = (*one, "--level-map", "mask.png")
    for command in (
        (*masked, "-o", "mask.png"),
        (*masked[:-1], "noise=mask.png", "-o", "mask.png"),
        (*one, "-o", "o.png", "--report", "p.json"),
        (*by_table, "-o", "out", "--report", "levels.json"),
        (*by_table, "-o", "out", "--report", "link.json"),
    ):
        assert "is also an input" in refuse(capsys, *command), command
    Path("loop.png").symlink_to("loop.png")
    assert main([*map(str, one), "-o", "loop.png"]) == 0
    Path("loop.png").unlink()
    Path("mask-compare.png").symlink_to("mask.png")
    assert "is also an input" in refuse(capsys, *masked, "--compare", "-o", "mask.png")
    Path("mask-compare.png").unlink()
    shutil.copy(weights, "w.safetensors")
    options = ("--weights", "w.safetensors", "--format", "safetensors", "--overwrite")
    message = refuse(capsys, "export", *options, "--level", 5, "-o", "w.safetensors")
    assert "is also an input" in message
    assert Path("w.safetensors").read_bytes() == Path(weights).read_bytes()
    Path("w.safetensors").unlink()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_empty_names_are_refused(weights, image, tmp_path, capsys):
    options = ("--weights", weights, "--level", 9)
    for command in (
        ("restore", "", "-o", tmp_path / "out", *options),
        ("restore", image, "-o", "", *options),
        ("restore", image, image, "-o", "", *options),
        ("estimate", "", "-o", tmp_path / "t.csv"),
    ):
        assert "is empty" in refuse(capsys, *command)
    assert "no file name" in refuse(
        capsys, "restore", image, "-o", tmp_path / "o.png", *options, "--report", "-"
    )
    assert [path.name for path in tmp_path.iterdir()] == [image.name]


def test_failures_name_their_files(image, tmp_path, capsys):
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    Image.open(image).save(folder / "two.png")
    arguments = ("--task", "denoise", "-o")
    assert main(["restore", str(folder), "--level", "auto", *arguments, str(tmp_path / "o")]) == 1
    assert "one.png: The 1x1 pixels" in capsys.readouterr().err
    assert main(["estimate", str(folder), *arguments, str(tmp_path / "t.csv")]) == 1
    assert "one.png: The 1x1 pixels" in capsys.readouterr().err


def test_hidden_files_are_no_images_of_a_set(folder_of_images):
    expected = find_images(folder_of_images)
    (folder_of_images / "__MACOSX").mkdir()
    (folder_of_images / "__MACOSX/._a.png").write_bytes(b"of the Finder")
    assert find_images(folder_of_images) == expected


def test_evaluate_script(weights, folder_of_images, tmp_path):
    process = run_script(
        "evaluate.py",
        f"--weights={weights}",
        f"--dataset={folder_of_images}",
        "--levels=15,25.5",
        "--self_ensemble",
        f"--output={tmp_path / 'report'}",
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "report/results.json").read_text())
    assert [row["level"] for row in results["rows"]] == [15.0, 25.5]
    assert results["self_ensemble"] and "mean of eight views" in process.stdout
    assert results["source"] == str(weights) and len(results["weights"]) == 64
    assert "| 25.5 | 2 |" in process.stdout


def test_demo(tmp_path, capsys):
    levels = {task: TASKS[task].demo_levels[1] for task in shipped_tasks()}
    chosen = [f"--{task}={TASKS[task].space.parse(level)}" for task, level in levels.items()]
    main(["demo", *chosen, "-o", str(tmp_path)])
    output = capsys.readouterr().out
    gains = [float(gain) for gain in re.findall(r" ([+-]\d+\.\d\d)$", output, re.MULTILINE)]
    assert len(gains) == len(shipped_tasks()) and all(gain > 0 for gain in gains)
    for task in shipped_tasks():
        assert Image.open(tmp_path / f"{task}.png").size[0] > 800
    # Pictures in the user's own folder are replaced only on request.
    assert "--overwrite" in refuse(capsys, "demo", "-o", tmp_path)
    assert "level '' is not" in refuse(capsys, "demo", "--denoise=", "-o", tmp_path / "other")


def test_a_new_task_is_its_entry_and_its_weights(tmp_path, photograph, monkeypatch, capsys):
    """Commands and page read tasks from the registry; none of them names a task."""
    axis = dataclasses.replace(NOISE_SIGMA, quantity="toy level", high=7.0)
    toy = dataclasses.replace(
        TASKS["denoise"], name="toy", space=LevelSpace.of(axis), demo_levels=(1, 3, 6),
        starting_level=3.0, estimate=None,
    )  # fmt: skip
    monkeypatch.setitem(TASKS, "toy", toy)
    monkeypatch.setattr("hypernet_jax.weights._PRETRAINED", tmp_path)
    save_weights(tmp_path / "toy.safetensors", tiny_theta(tiny_config("toy")), tiny_config("toy"))
    main(["demo", "--toy", "2,5.5", "-o", str(tmp_path / "demo")])
    assert re.findall(r"^(\w+) +toy level (\S+)", capsys.readouterr().out, re.MULTILINE) == [
        ("toy", "2"),
        ("toy", "5.5"),
    ]
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["toy.png"]
    with pytest.raises(SystemExit):
        main(["restore", "--help"])
    assert "toy: noise 0-7" in " ".join(capsys.readouterr().out.split())
    studio = Studio(limit=1.0)
    example = studio.example(tmp_path / "examples", "toy")
    assert studio.starting_value(example, "toy") == (3.0, "")
    output = tmp_path / "out.png"
    message = refuse(capsys, "restore", example, "--task", "toy", "--level", "auto", "-o", output)
    assert "give a toy level from 0 to 7" in message
    main(["restore", str(example), "--task", "toy", "--level", "7", "-o", str(output)])
    assert output.exists()


def test_the_package_needs_no_heavy_imports_to_answer():
    """`--help` must not wait for TFDS, Orbax or Grain."""
    code = (
        "import sys, hypernet_jax.cli.main, hypernet_jax; "
        "heavy = ('tensorflow_datasets', 'orbax', 'grain', 'matplotlib'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert process.stdout.strip() == "[]"


def test_no_output_replaces_the_photograph_of_another(weights, photograph, tmp_path, capsys):
    def saved(path, value):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)
        return path

    one = saved(tmp_path / "one" / "a.png", 10)
    sheet = saved(tmp_path / "two" / "a-compare.png", 20)
    linked = tmp_path / "best"
    linked.mkdir()
    (linked / "a-compare.png").symlink_to(one)
    (linked / "a.png").symlink_to(sheet)
    before = {path: path.read_bytes() for path in (one, sheet)}
    asked = ["restore", "--weights", weights, "--level", "5", "--overwrite"]
    compared = ("-o", sheet.parent, "--compare", "--format", "jpeg")
    message = refuse(capsys, *asked, one, sheet, *compared)
    assert "is also the input" in message
    message = refuse(capsys, *asked, *linked.iterdir(), "-o", sheet.parent)
    assert "is also the input" in message
    assert {path: path.read_bytes() for path in before} == before


def test_a_name_too_long_for_its_comparison_stops_no_other(weights, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", 251 * "x"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{name}.png")
    command = ["restore", folder, "--weights", weights, "--level", "5", "--compare"]
    assert main([*map(str, command), "-o", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert "1 restored, 1 failed" in out and "File name too long" in err


def test_a_sweep_takes_no_strengths_and_leaves_no_folder(weights, image, tmp_path, capsys):
    command = ["restore", image, "--weights", weights, "--sweep", "5"]
    message = refuse(capsys, *command, "--luma", "0", "-o", tmp_path / "a.png")
    assert "leave --luma out" in message
    message = refuse(capsys, *command, "--format", "jpeg", "-o", tmp_path / "folder")
    assert "leave --format out" in message and not (tmp_path / "folder").exists()


def test_a_mistake_leaves_no_folder(weights, image, tmp_path, capsys):
    new = tmp_path / "new" / "folder"
    (tmp_path / "in").mkdir()
    Image.new("L", (9, 9)).save(tmp_path / "in" / "a.png")
    command = ["restore", "--weights", weights, "--level", "5", "-o", f"{new}/"]
    assert "There is no file" in refuse(capsys, *command, tmp_path / "missing.png")
    said = refuse(capsys, *command, tmp_path / "in", "--quality", "90")
    assert "PNG is always lossless" in said
    said = refuse(capsys, *command, tmp_path / "in", "--sequence")
    assert "--sequence finds one level for all frames; leave it out" in said
    assert not new.parent.exists()
    # Where only some of the formats take a quality, the others are reported one by one.
    Image.new("L", (9, 9)).save(tmp_path / "in" / "b.jpg")
    options = ["--format", "same", "--quality", "90"]
    assert main([*map(str, command), str(tmp_path / "in"), *options]) == 1
    assert "1 restored, 1 failed" in capsys.readouterr().out
    assert [path.name for path in new.iterdir()] == ["b.jpg"]


@pytest.mark.parametrize("port", ["-5", "99999"])
def test_ports_that_cannot_be(port, capsys):
    assert "up to 65535" in refuse(capsys, "serve", f"--port={port}")
