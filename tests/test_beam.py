"""Datasets and archives on Apache Beam: as without it, restartable, failures end in a sentence."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hypernet_jax import UserError, beam, buckets, save_weights
from hypernet_jax.cli.main import main
from hypernet_jax.data import assembly, shards
from hypernet_jax.data.prepare import folders_of, local_dataset, open_split, prepare_dataset
from hypernet_jax.data.shards import CutShard
from hypernet_jax.images.folders import find_images
from hypernet_jax.storage import names_in, storage_path
from hypernet_jax.training.loop import train

from .beam_work import Fails
from .bucket_servers import buckets_of_both_kinds
from .commands import refuse
from .conftest import REPOSITORY
from .models import tiny_config, tiny_theta, tiny_training_config

pytest.importorskip("apache_beam", reason="the extra `beam` is not installed")

OPTIONS = {"size": 64, "stride": 48, "minimum": 50, "held_out": 3}
TWO_WORKERS = "--direct_num_workers=2 --direct_running_mode=multi_processing"
# Photographs in a shard, so that a few make several.
TOGETHER = 3


@pytest.fixture(scope="module", autouse=True)
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_MOST", TOGETHER)
        yield


def crop(photograph, path, number, side=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(photograph[10 * number :][:side, 20 * number :][:, : side + 20])
    picture.save(path)


@pytest.fixture(scope="module")
def folder(photograph, tmp_path_factory):
    """Fourteen photographs in two folders, and two files that are refused."""
    folder = tmp_path_factory.mktemp("source") / "photographs"
    for number in range(14):
        crop(photograph, folder / ("more" if number % 3 else ".") / f"{number}.png", number)
    (folder / "broken.jpg").write_bytes(b"no image")
    crop(photograph, folder / "more/.hidden.png", 0)
    crop(photograph, folder / "more/small.png", 0, side=30)
    return folder


@pytest.fixture(scope="module")
def local(folder, tmp_path_factory):
    """What the route without Beam makes of it: the dataset, the counts, the refusals."""
    dataset = tmp_path_factory.mktemp("local") / "ds"
    refusals: list[str] = []
    prepared = prepare_dataset(folder, dataset, report=refusals.append, progress=False, **OPTIONS)
    return dataset, prepared, refusals


def on_beam(source, output, **options):
    return prepare_dataset(
        source, output, **({"beam_options": "", "report": lambda _: None} | OPTIONS | options)
    )


def records(dataset):
    """All that training reads, by split."""
    return {
        split: sorted(
            (record["photograph"], record["image"].shape, record["image"].tobytes())
            for record in open_split(dataset, split)
        )
        for split in ("train", "validation")
    }


def sizes(dataset):
    """Of each split: bytes and number of records."""
    splits = json.loads((Path(dataset) / "dataset_info.json").read_text())["splits"]
    return {
        each["name"]: (each["numBytes"], sum(map(int, each["shardLengths"]))) for each in splits
    }


@pytest.fixture
def cut(monkeypatch):
    """The shards that are cut from here on."""
    items: list[tuple] = []
    call = CutShard.__call__
    monkeypatch.setattr(
        CutShard, "__call__", lambda self, item: (items.append(item), call(self, item))[1]
    )
    return items


def test_the_dataset_equals_that_of_the_local_route(folder, local, tmp_path, cut):
    dataset, prepared, refusals = local
    said: list[str] = []
    assert on_beam(folder, tmp_path / "ds", report=said.append) == prepared
    assert prepared.photographs == 14 and prepared.skipped == 2
    assert said == refusals and len(said) == 2
    assert len(cut) == -(-16 // TOGETHER)
    assert records(tmp_path / "ds") == records(dataset)
    assert sizes(tmp_path / "ds") == sizes(dataset)
    about = [
        json.loads((each / "sub_images.json").read_text()) for each in (tmp_path / "ds", dataset)
    ]
    assert about[0]["smallest_side"] == about[1]["smallest_side"] == 64
    of_records = zip(folders_of(tmp_path / "ds"), open_split(tmp_path / "ds", "train"), strict=True)
    assert all(str(Path(record["photograph"].decode()).parent) == at for at, record in of_records)
    # Nothing is left of the work.
    kinds = {"-of-", "sub_images.json", "features.json", "dataset_info.json"}
    assert all(any(kind in path.name for kind in kinds) for path in (tmp_path / "ds").iterdir())


def test_copies_of_held_out_photographs_are_left_out(folder, tmp_path):
    """On both routes, whatever the copy's size, quality and colours."""
    source = tmp_path / "in"
    shutil.copytree(folder, source)
    for path in find_images(folder)[:14]:
        with contextlib.suppress(OSError), Image.open(path) as picture:
            copy = picture.convert("L").resize((90, 75))
            copy.save(source / f"copy of {path.stem}.jpg", quality=80)
    said: dict[bool, list[str]] = {True: [], False: []}
    prepared = [
        prepare_dataset(
            source, tmp_path / f"ds{beam}", report=said[beam].append, progress=False,
            beam_options="" if beam else None, **OPTIONS,
        ) for beam in (True, False)
    ]  # fmt: skip
    assert prepared[0] == prepared[1] and sorted(said[True]) == sorted(said[False])
    alike = [sentence for sentence in said[True] if "looks like" in sentence]
    assert len(alike) == 3 and all("held out" in sentence for sentence in alike)
    assert records(tmp_path / "dsTrue") == records(tmp_path / "dsFalse")
    smallest = {
        json.loads((tmp_path / f"ds{beam}" / "sub_images.json").read_text())["smallest_side"]
        for beam in (True, False)
    }
    assert len(smallest) == 1
    stems = {
        split: {Path(name.decode()).stem.removeprefix("copy of ") for name, _, _ in found}
        for split, found in records(tmp_path / "dsTrue").items()
    }
    assert not stems["train"] & stems["validation"]


def test_training_takes_it(folder, tmp_path):
    on_beam(folder, tmp_path / "ds")
    config = tiny_training_config(str(tmp_path / "ds"))
    config.steps = 1
    assert int(train(config, tmp_path / "run", progress=False).step) == 1


def test_a_shard_without_a_usable_photograph_is_empty(photograph, tmp_path):
    for number in range(3 * TOGETHER):
        (tmp_path / f"in/{number}.jpg").parent.mkdir(exist_ok=True)
        (tmp_path / f"in/{number}.jpg").write_bytes(b"no image")
    crop(photograph, tmp_path / "in/a.png", 0)
    crop(photograph, tmp_path / "in/b.png", 1)
    prepared = on_beam(tmp_path / "in", tmp_path / "ds", held_out=1)
    assert (prepared.photographs, prepared.skipped) == (2, 3 * TOGETHER)
    lengths = json.loads((tmp_path / "ds/dataset_info.json").read_text())["splits"]
    assert "0" in lengths[0]["shardLengths"]
    assert {split: len(found) for split, found in records(tmp_path / "ds").items()} == (
        prepared.sub_images
    )
    prepare_dataset(
        tmp_path / "in", tmp_path / "here", report=lambda _: None, progress=False,
        **OPTIONS | {"held_out": 1},
    )  # fmt: skip
    assert records(tmp_path / "ds") == records(tmp_path / "here")


def test_the_layout_of_div2k(photograph, tmp_path):
    for number in range(5):
        of = "train" if number < 3 else "valid"
        crop(photograph, tmp_path / f"in/DIV2K_{of}_HR/{number}.png", number)
    options = {"layout": "div2k", "reduce": 2, "minimum": 20}
    on_beam(tmp_path / "in", tmp_path / "ds", **options)
    prepare_dataset(tmp_path / "in", tmp_path / "here", progress=False, **OPTIONS | options)
    assert records(tmp_path / "ds") == records(tmp_path / "here")
    assert sizes(tmp_path / "ds") == sizes(tmp_path / "here")


# Prepares in a process of its own, in which a worker process kills itself once.
_PREPARE = """
import json, sys
from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.data import assembly, shards
from tests.beam_work import Dies
from hypernet_jax.data.prepare import prepare_dataset
shards._MOST, assembly.CutShard = int(sys.argv[4]), Dies
with exit_with_sentence():
    options = json.loads(sys.argv[5])
    prepare_dataset(sys.argv[1], sys.argv[2], beam_options=sys.argv[3], **options)
"""


@pytest.mark.parametrize("options", ["", TWO_WORKERS], ids=["one process", "a worker"])
def test_what_a_kill_leaves_is_resumed(options, folder, local, tmp_path, cut):
    output = tmp_path / "ds"
    arguments = [folder, output, options, str(TOGETHER), json.dumps(OPTIONS)]
    done = subprocess.run(
        [sys.executable, "-c", _PREPARE, *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    if options:  # the process that waits for its workers tells what happened
        assert done.returncode == 2
        assert "error: A worker of the pipeline was lost" in done.stderr
        assert "give the same command again" in done.stderr
    else:
        assert done.returncode == -signal.SIGKILL
    # As it may be when the kill comes in the middle of a file.
    (output / ".0123456789ab.partial").write_bytes(b"half")
    finished = {path.name: path.stat().st_mtime_ns for path in output.glob("part-*")}
    with pytest.raises(UserError, match="not a prepared dataset"):
        open_split(output, "train")
    with pytest.raises(UserError, match="already exists"):
        prepare_dataset(folder, output, progress=False, **OPTIONS)
    assert on_beam(folder, output, beam_options="") == local[1]
    assert finished and len(cut) == 6 - len(finished)
    assert not list(output.glob(".*"))
    assert not {f"part-{split}-{index:05d}.json" for split, index in cut} & finished.keys()
    assert records(output) == records(local[0])


class KilledError(BaseException):
    """What stands for the end of the process in one that goes on."""


def test_a_kill_between_any_two_writes_of_the_end_does_no_harm(folder, local, tmp_path, cut):
    writers = {name: getattr(assembly, name) for name in ("write_records", "write_whole")}

    def kill_after(writes, output):
        left = iter(range(writes))

        def counted(write):
            def call(*args, **options):
                if next(left, None) is None:
                    raise KilledError
                return write(*args, **options)

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name, writer in writers.items():
                patch.setattr(assembly, name, counted(writer))
            on_beam(folder, output)

    def killed(*_):
        raise KilledError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(assembly, "_assemble", killed)
        on_beam(folder, tmp_path / "cut")
    # The validation shard, the three shards that it is from at most, and three descriptions.
    for writes in range(8):
        output = shutil.copytree(tmp_path / "cut", tmp_path / str(writes))
        try:
            kill_after(writes, output)
            break
        except KilledError:
            assert on_beam(folder, output) == local[1]
        assert records(output) == records(local[0])
        assert sizes(output) == sizes(local[0])
    assert writes >= 5 and len(cut) == 6


def test_an_unfinished_dataset_of_others_is_not_resumed(folder, local, tmp_path, cut):
    output = tmp_path / "ds"
    with pytest.raises(UserError, match=r"(broken|small).* refused because of --strict\."):
        on_beam(folder, output, strict=True)
    with pytest.raises(UserError, match="other photographs or options"):
        on_beam(folder, output, size=60)
    on_beam(folder, output, overwrite=True, size=60)
    with pytest.raises(UserError, match=r"already exists; .*--overwrite"):
        on_beam(folder, output)
    cut.clear()
    assert on_beam(folder, output, overwrite=True) == local[1] and len(cut) == 6
    assert records(output) == records(local[0])
    (output / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match=r"holds mine\.txt"):
        on_beam(folder, output, overwrite=True)
    for place in (folder, folder.parent):
        with pytest.raises(UserError, match="holds the photographs"):
            on_beam(folder, place, overwrite=True)


def test_without_a_usable_photograph_there_is_no_dataset(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="holds no image"):
        on_beam(tmp_path / "in", tmp_path / "ds")
    (tmp_path / "in/a.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match="None of the 1 images"):
        on_beam(tmp_path / "in", tmp_path / "ds")
    assert "dataset_info.json" not in names_in(tmp_path / "ds")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--runner=Nonsense", "Unexpected pipeline runner"),
        ("--direct_num_workers=two", "invalid int value"),
        ("--direct_num_worker=2", "no option --direct_num_worker"),
        ("--runner='a", "No closing quotation"),
    ],
)
def test_wrong_options_of_a_pipeline_end_in_a_sentence(options, sentence, folder, tmp_path, capsys):
    said = refuse(capsys, "prepare", folder, "-o", tmp_path / "ds", f"--beam-options={options}")
    assert sentence in said and "--beam-options" in said
    said = refuse(capsys, "restore", folder, "-o", tmp_path / "out", f"--beam-options={options}")
    assert sentence in said and list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    said = refuse(capsys, "prepare", folder, "-o", tmp_path / "ds", "--beam-options=")
    assert "apache_beam" in said and "pip install 'hypernet-jax[beam]'" in said


@pytest.mark.parametrize("options", ["", TWO_WORKERS])
def test_failures_in_workers_end_in_sentences(options, capfd):
    with pytest.raises(UserError, match=r"^The store is full; make room there\.$"):
        beam.run(
            Fails(UserError("The store is full; make room there.")),
            range(4),
            options=options,
        )
    assert "Traceback" not in capfd.readouterr().err
    with pytest.raises(UserError, match=r"^The pipeline failed \(.*odd.*\); give the same"):
        beam.run(Fails(KeyError("odd")), range(4), options=options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, tiny_theta(tiny_config()), tiny_config())
    return path


@pytest.fixture
def archive(photograph, tmp_path):
    """Photographs, one of them with a mask, two with one name, and a file that is refused."""
    folder = tmp_path / "archive"
    for number, name in enumerate(("a.png", "a.jpg", "more/b.png", "more/c.png")):
        crop(photograph, folder / name, number)
    mask = Image.linear_gradient("L").resize((120, 100))
    mask.save(folder / "more/b.mask.png")
    (folder / "more/broken.jpg").write_bytes(b"no image")
    return folder


def restore(weights, source, output, *more):
    options = ["--weights", str(weights), "--level", "20", "--backend", "jax"]
    return main(["restore", str(source), "-o", str(output), *options, *map(str, more)])


def files_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_file_named_like_shipped_weights_is_not_taken_for_them(
    photograph, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("denoise").write_bytes(b"not weights")
    crop(photograph, tmp_path / "in/a.png", 0)
    command = ["restore", "in", "-o", "out", "--task", "denoise", "--level", "20", "--backend"]
    assert main([*command, "jax", "--beam-options="]) == 0
    assert "1 restored" in capsys.readouterr().out


def test_an_archive_is_restored_as_a_folder(archive, weights, tmp_path, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    assert restore(weights, archive, here, "--report", tmp_path / "here.json") == 1
    expected = capsys.readouterr()
    more = ["--beam-options=", "--report", tmp_path / "there.json"]
    assert restore(weights, archive, there, *more) == 1
    said = capsys.readouterr()
    assert files_of(there) == files_of(here)
    assert sorted(files_of(here)) == ["a.jpg.png", "a.png.png", "more/b.png", "more/c.png"]
    assert said.out.splitlines()[-1] == expected.out.splitlines()[-1]
    assert said.out.splitlines()[-1] == "5 files: 4 restored, 1 failed"
    assert said.err.splitlines()[-2:] == expected.err.splitlines()[-2:]
    reports = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("here", "there")]
    for row in reports[1]["files"]:
        row["output"] = row["output"].replace(str(there), str(here))
    assert reports[0] == reports[1]


def test_what_exists_is_skipped_or_refused(archive, weights, tmp_path, capsys):
    output = tmp_path / "out"
    restore(weights, archive, output, "--beam-options=")
    whole = files_of(output)
    (output / "more/c.png").unlink()
    (output / "a.png.png").write_bytes(b"of mine")
    capsys.readouterr()
    assert restore(weights, archive, output, "--beam-options=", "--skip-existing") == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "5 files: 1 restored, 3 skipped, 1 failed" and len(said) == 2
    assert files_of(output) == whole | {"a.png.png": b"of mine"}
    assert restore(weights, archive, output, "--beam-options=") == 1
    said = capsys.readouterr()
    assert "5 files: 0 restored, 5 failed" in said.out and "pass --overwrite" in said.err
    restore(weights, archive, output, "--beam-options=", "--overwrite")
    assert files_of(output) == whole


@pytest.mark.parametrize(
    "more",
    [
        ["--sweep", "5,15"], ["--sequence"], ["--levels", "levels.csv"], ["--compare"],
        ["--estimator", "e.safetensors"], ["--level-map", "mask.png"],
    ],
)  # fmt: skip
def test_what_makes_no_sense_for_an_archive_is_refused(more, archive, tmp_path, capsys):
    said = refuse(capsys, "restore", archive, "-o", tmp_path / "out", "--beam-options=", *more)
    assert said.startswith(f"error: {more[0]} is not for archives")


def test_an_archive_is_one_folder(archive, tmp_path, capsys):
    for inputs in (["-"], [archive / "a.png"], [archive, archive / "more"], [tmp_path / "none"]):
        said = refuse(capsys, "restore", *inputs, "-o", tmp_path / "out", "--beam-options=")
        assert "one folder or address" in said
    for output in ("-", tmp_path / "out.png"):
        said = refuse(capsys, "restore", archive, "-o", output, "--beam-options=")
        assert "needs a folder or address as output" in said


@pytest.fixture(scope="module")
def doors():
    # Not imported yet: gcsfs reads the environment as it is.
    for package in ("s3fs", "gcsfs", "moto", "flask", "gcp_storage_emulator"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    with buckets_of_both_kinds() as opened:
        yield opened


def send(folder, address):
    for name, content in files_of(folder).items():
        (storage_path(address) / name).write_bytes(content)


def test_a_dataset_from_a_bucket_to_a_bucket(doors, folder, local, tmp_path, capsys, monkeypatch):
    send(folder, "s3://bucket/photographs")
    requests: list[str] = []
    doors["s3"].answer = lambda method, path: requests.append(f"{method} {path}")
    options = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    assert main(["prepare", "s3://bucket/photographs", "-o", "gs://bucket/set", *options]) == 0
    said = capsys.readouterr()
    assert "sub-images of 14 photographs, 2 skipped" in said.out
    assert said.err.count("Skipped: ") == 2 and "s3://bucket/photographs/broken.jpg" in said.err
    # One listing and one request for each photograph.
    assert sum("list-type" in request for request in requests) <= 3
    assert sum(request.startswith("GET /bucket/photographs/") for request in requests) <= 16
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert records(local_dataset("gs://bucket/set")) == records(local[0])
    said = refuse(capsys, "prepare", "s3://bucket/photographs", "-o", "gs://bucket/set", *options)
    assert "already exists" in said
    said = refuse(capsys, "prepare", "s3://bucket/none", "-o", "gs://bucket/none")
    assert "holds no image" in said


def test_an_outage_is_no_refusal(doors, folder, local, monkeypatch):
    send(folder, "s3://bucket/more")
    monkeypatch.setattr(buckets, "_PAUSES", ())
    refused = 403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    doors["s3"].answer = lambda method, path: refused if path.endswith("more/4.png") else None
    with pytest.raises(UserError, match=r"refuses s3://bucket/more/more/4\.png"):
        on_beam("s3://bucket/more", "gs://bucket/more")
    doors["s3"].answer = lambda method, path: None
    assert on_beam("s3://bucket/more", "gs://bucket/more") == local[1]


def test_an_archive_from_a_bucket_to_a_bucket(doors, archive, weights, tmp_path, capsys):
    restore(weights, archive, tmp_path / "here")
    capsys.readouterr()
    send(archive, "gs://bucket/archive")
    output = "s3://bucket/restored"
    assert restore(weights, "gs://bucket/archive", output) == 1
    said = capsys.readouterr()
    assert "5 files: 4 restored, 1 failed" in said.out
    assert "gs://bucket/archive/more/broken.jpg" in said.err and str(tmp_path) not in said.err
    for name, content in files_of(tmp_path / "here").items():
        assert (storage_path(output) / name).read_bytes() == content
    assert names_in(storage_path(output)) == ["a.jpg.png", "a.png.png", "more"]
    (storage_path(output) / "more/b.png").unlink()
    assert restore(weights, "gs://bucket/archive", output, "--skip-existing") == 1
    assert "1 restored, 3 skipped, 1 failed" in capsys.readouterr().out
    said = refuse(
        capsys, "restore", "gs://bucket/archive", "-o", "gs://bucket/archive/out",
        "--weights", weights, "--level", "20",
    )  # fmt: skip
    assert "one holds the other" in said
    # A folder of this machine goes to an address, too.
    assert restore(weights, archive, "gs://bucket/sent") == 1
    sent = storage_path("gs://bucket/sent") / "more/b.png"
    assert sent.read_bytes() == (tmp_path / "here/more/b.png").read_bytes()
