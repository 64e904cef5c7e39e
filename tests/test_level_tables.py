"""Tables of levels, estimated, edited and used by restore; and reports."""

import csv
import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

from hypernet_jax import UserError, get_task, save_weights
from hypernet_jax.cli.main import main
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.photographs.level_tables import read_levels, write_levels
from hypernet_jax.photographs.sequences import level_of_frames

from .commands import refuse
from .models import RESTORER, tiny_config, tiny_theta


@pytest.fixture
def folder(tmp_path, photograph):
    """Three photographs with noise of different strength."""
    place = tmp_path / "in"
    place.mkdir()
    for index, sigma in enumerate((5, 15, 30)):
        noise = np.random.default_rng(index).normal(0, sigma, (120, 160, 3))
        noisy = np.clip(photograph[:120, :160] + noise, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(place / f"{index}.png")
    return place


@pytest.fixture
def weights(tmp_path):
    save_weights(tmp_path / "w.safetensors", tiny_theta(tiny_config()), tiny_config())
    return tmp_path / "w.safetensors"


def test_a_folder_by_an_edited_table(folder, weights, tmp_path, capsys):
    table, output, report = (tmp_path / name for name in ("levels.csv", "out", "report.json"))
    main(["estimate", str(folder), "--task", "denoise", "-o", str(table)])
    assert "3 photographs" in capsys.readouterr().out
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"] for row in rows] == ["in/0.png", "in/1.png", "in/2.png"]
    levels = [float(row["level"]) for row in rows]
    np.testing.assert_allclose(levels, [5, 15, 30], rtol=0.2)
    # As saved by a spreadsheet: byte order mark, semicolons, an empty cell, a deleted row.
    text = "\ufefffile;level\nin/0.png;40\nin/2.png;\nin/gone.png;5\n"
    table.write_text(text, encoding="utf-8")
    command = ["restore", folder, "--weights", weights, "--levels", table, "-o", output]
    main(list(map(str, [*command, "--report", report])))
    out, err = capsys.readouterr()
    assert "2 restored" in out and "no row for them" in err and "in/1.png" in err
    assert "without an image" in err and "gone.png" in err
    assert sorted(path.name for path in output.iterdir()) == ["0.png", "2.png"]
    expected = RESTORER.restore(np.asarray(Image.open(folder / "0.png")), level=40)
    found = np.asarray(Image.open(output / "0.png"))
    assert np.abs(found.astype(int) - expected).max() <= 1
    written = json.loads(report.read_text())
    assert written["task"] == "denoise" and [row["state"] for row in written["files"]] == [
        "restored",
        "restored",
    ]
    by_hand, estimated = written["files"]
    assert by_hand["level"] == 40 and by_hand["estimate"] is None
    assert abs(estimated["level"] - levels[2]) < 0.1 and estimated["estimate"]


def test_frames_get_one_level(folder, weights, tmp_path, capsys):
    (folder / "9.png").write_text("a frame that was lost")
    output, report = tmp_path / "out", tmp_path / "report.json"
    command = ["restore", folder, "--weights", weights, "-o", output, "--report", report]
    assert main(list(map(str, [*command, "--level", "auto", "--sequence"]))) == 1
    assert "estimated from 3 of 4 frames" in capsys.readouterr().err
    rows = json.loads(report.read_text())["files"]
    levels = [row["level"] for row in rows if row["state"] == "restored"]
    assert {row["estimate"] for row in rows if row["state"] == "restored"} == {
        "estimated from 3 of 4 frames"
    }
    assert levels == levels[:1] * 3 and levels[0] == pytest.approx(15, rel=0.2), "the median"
    expected = RESTORER.restore(np.asarray(Image.open(folder / "2.png")), level=levels[0])
    found = np.asarray(Image.open(output / "2.png"))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_of_a_frame_whose_level_is_given_nothing_is_estimated(folder):
    task = get_task("photo")
    request = task.space.request({"noise": "auto", "jpeg": 40, "blur": 0.5})
    frames = sorted(folder.iterdir())
    level, _ = level_of_frames(task, request, frames, limit=1)
    each = [resolve_level(task, request, np.asarray(Image.open(f)), f)[0] for f in frames]
    assert level["jpeg"] == 40 and level["blur"] == 0.5
    assert level["noise"] == pytest.approx(np.median([one["noise"] for one in each]))
    with pytest.raises(UserError, match="no file"):
        level_of_frames(task, request, [folder / "none.png"], limit=1)


def test_levels_with_parts_come_back(tmp_path):
    space = get_task("photo").space
    level = space.parse("noise=12.34,jpeg=60,blur=0.5")
    for name in ("a.csv", "b.json"):
        path = tmp_path / "tables" / name
        path.parent.mkdir(exist_ok=True)
        write_levels(path, [(tmp_path / "é, x.jpg", level, "estimated")], space)
        found = read_levels(path, space)
        assert found == {(tmp_path / "é, x.jpg").resolve(): space.request(level)}
    # As written by spreadsheets in some locales.
    (tmp_path / "d.csv").write_text(
        "file;noise;jpeg;blur;how\ny, z.jpg;12,5;60;0,5;by hand, once\n"
    )
    (request,) = read_levels(tmp_path / "d.csv", space).values()
    assert request == space.request("noise=12.5,jpeg=60,blur=0.5")
    # With empty lines above and an empty column, as spreadsheets add them.
    (tmp_path / "e.csv").write_text("\n \nfile,noise,jpeg,\nx.jpg,5,40,\n")
    (request,) = read_levels(tmp_path / "e.csv", space).values()
    assert request == space.request({"noise": 5, "jpeg": 40, "blur": "auto"})
    (tmp_path / "c.csv").write_text("file,jpeg\nx.jpg,40\n")
    (request,) = read_levels(tmp_path / "c.csv", space).values()
    assert request == space.request({"noise": "auto", "jpeg": 40, "blur": "auto"})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "", "must end in .csv or .json"),
        ("a.csv", "", "no rows"),
        ("a.csv", "name,level\na.png,5\n", "no column 'file'; its first row has name, level"),
        ("a.csv", "file,level\na.png,5\na.png,6\n", "two rows"),
        ("a.csv", "file\tlevel\na.png\t5\n", "Name the columns there, separated by commas"),
        ("a.csv", "file,level\n,5\n", "fill its column file"),
        ("a.csv", "file,level,\na.png,5,6\n", "no part of the level named ''"),
        ("a.csv", "\n\nfile,level\na.png,500\n", "In row 4 of .*from 0 to 100"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.csv", "file,level\na.png,500\n", "In row 2 of .*from 0 to 100"),
        ("a.csv", "file,sigma\na.png,5\n", "no part of the level named 'sigma'"),
        ("a.csv", "file,level\na.png,12,5\n", "Row 2 of .* has more cells"),
        ("a.csv", "file,level, level\na.png,5,6\n", "two columns 'level'"),
        ("a.csv", 'file,level\n"a.png,5\n' + 9_000 * "some other.png,5\n", "is not closed"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[1]", "list of objects"),
        ("a.json", '[{"file": 3}]', "no file in row 1"),
    ],
)
def test_tables_that_cannot_be_used(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_levels(tmp_path / name, get_task("denoise").space)


def test_refusals(folder, weights, tmp_path, capsys):
    table = tmp_path / "levels.csv"
    table.write_text("file,level\nelsewhere.png,5\n")

    def refusal(*options):
        return refuse(
            capsys, "restore", folder, "--weights", weights, "-o", tmp_path / "o", *options
        )

    assert "cannot be read" in refusal("--levels", tmp_path / "none.csv")
    assert "names none of the images" in refusal("--levels", table)
    assert not (tmp_path / "o").exists()
    assert "leave --level" in refusal("--levels", table, "--level", 5)
    assert "leave --levels out" in refusal("--levels", table, "--sequence")
    one = (folder / "0.png", "--weights", weights, "-o", tmp_path / "o.png", "--level", "auto")
    assert "several frames" in refuse(capsys, "restore", *one, "--sequence")
    assert "already exists" in refusal("--level", 5, "--report", table)
    assert "ends in .json" in refusal("--level", 5, "--report", table, "--overwrite")
    output = ("-o", tmp_path / "t.csv")
    assert "cannot be estimated" in refuse(capsys, "estimate", folder, "--task", "sr", *output)
    assert "is not read" in refuse(capsys, "estimate", "-", "--task", "denoise", *output)
    missing = refuse(capsys, "estimate", folder / "none.png", "--task", "denoise", *output)
    assert "There is no file" in missing and not (tmp_path / "t.csv").exists()
    (folder / "broken.png").write_text("no image")
    assert main(list(map(str, ["estimate", folder, "--task", "denoise", *output]))) == 1
    assert "broken.png is not an image" in capsys.readouterr().err
    assert len(read_levels(tmp_path / "t.csv", get_task("denoise").space)) == 3


def test_a_table_reads_back_whatever_the_photographs_are_called(folder, weights, tmp_path, capsys):
    """Links, names given twice, spaces around names, and a table in a folder that is a link."""
    (folder / "link.png").symlink_to("0.png")
    (folder / " 3.png").write_bytes((folder / "0.png").read_bytes())
    real = tmp_path / "real" / "deep"
    real.mkdir(parents=True)
    (tmp_path / "tables").symlink_to(real)
    table = tmp_path / "tables" / "levels.csv"
    images = [str(folder), str(folder / "0.png")]
    assert main(["estimate", *images, "--task", "denoise", "-o", str(table)]) == 0
    assert "5 photographs" in capsys.readouterr().out
    output = tmp_path / "out"
    command = ["restore", *images, "--weights", weights, "--levels", table, "-o", output]
    assert main(list(map(str, command))) == 0
    out, err = capsys.readouterr()
    assert "5 restored" in out and "without an image" not in err and "no row" not in err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that are not text")
def test_names_that_are_not_text(folder, weights, tmp_path, capsys):
    odd = folder / os.fsdecode(b"caf\xe9.png")
    (folder / "1.png").rename(odd)
    table = tmp_path / "levels.csv"
    assert main(["estimate", str(folder), "--task", "denoise", "-o", str(table)]) == 1
    out, err = capsys.readouterr()
    assert "2 photographs" in out and "is not UTF-8; rename it, or write a .json table" in err
    table, report = tmp_path / "levels.json", tmp_path / "report.json"
    assert main(["estimate", str(folder), "--task", "denoise", "-o", str(table)]) == 0
    assert (folder / odd.name).resolve() in read_levels(table, get_task("denoise").space)
    command = ["restore", folder, "--weights", weights, "--level", "5", "-o", tmp_path / "out"]
    assert main([*map(str, command), "--report", str(report)]) == 0
    assert str(odd) in [row["input"] for row in json.loads(report.read_text())["files"]]


def test_a_skipped_photograph_is_reported(folder, weights, tmp_path):
    report, output = tmp_path / "report.json", tmp_path / "out.png"
    output.touch()
    command = ["restore", folder / "0.png", "--weights", weights, "--level", "5", "-o", output]
    main([*map(str, command), "--skip-existing", "--report", str(report)])
    assert [row["state"] for row in json.loads(report.read_text())["files"]] == ["skipped"]
