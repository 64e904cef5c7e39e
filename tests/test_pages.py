"""Pages are right: their Python runs, their commands exist, and their links lead somewhere."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from hypernet_jax import tasks
from hypernet_jax.cli.main import main
from hypernet_jax.interchange.level_estimator import LevelEstimator
from hypernet_jax.networks import registry
from hypernet_jax.networks.level_network import LevelNetwork

from .conftest import REPOSITORY
from .page_commands import check, commands, fenced

PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "integrations").rglob("*.md")),
    *sorted((REPOSITORY / "hypernet_jax").rglob("*.md")),
]


def name_of(page):
    return str(page.relative_to(REPOSITORY))


def every_page(test):
    return pytest.mark.parametrize("page", PAGES, ids=name_of)(test)


def make_folder(name):
    """Makes a folder with a small photograph."""

    def make(photograph):
        Path(name).mkdir()
        Image.fromarray(photograph[100:164, 200:296]).save(f"{name}/one.jpg", quality=95)

    return make


def export(photograph):
    """The files that docs/howto/export.md runs."""
    del photograph
    for form in ("stablehlo", "onnx"):
        main(["export", "--task", "denoise", "--format", form, "-o", f"denoise.{form}"])


def make_level_network(photograph):
    """A level network as `import-torch` writes it, untrained."""
    del photograph
    network = LevelNetwork(channels=4)
    params = network.init(jax.random.key(0), np.zeros((1, 128, 128, 3), np.float32))["params"]
    LevelEstimator("denoise", 128, network, params).save("level.safetensors")


# What a page takes for granted, or makes in its shell blocks.
PREPARED = {
    "docs/howto/python.md": make_folder("photographs"),
    "docs/howto/export.md": export,
    "docs/howto/import_pytorch.md": make_level_network,
    "hypernet_jax/pretrained/deblur.md": make_folder("Kodak24"),
}
WITH_PYTHON = [page for page in PAGES if fenced(page.read_text(), "python")]


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page, photograph, tmp_path, monkeypatch):
    """All blocks in turn, in one namespace and a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_NETWORKS", dict(registry._NETWORKS))
    monkeypatch.setattr(tasks, "TASKS", dict(tasks.TASKS))
    if name_of(page) == "docs/howto/export.md":
        pytest.importorskip("onnxruntime", reason="the extra `onnxruntime` is not installed")
    PREPARED.get(name_of(page), lambda photograph: None)(photograph)
    namespace: dict = {"__name__": "__main__"}
    for block in fenced(page.read_text(), "python"):
        exec(compile(block, name_of(page), "exec"), namespace)
    if "restored" in namespace:
        assert np.isfinite(np.asarray(namespace["restored"])).all()


def test_the_first_python_of_the_readme_is_short():
    block = fenced(PAGES[0].read_text(), "python")[0]
    assert len([line for line in block.splitlines() if line]) <= 5


@every_page
def test_commands_exist(page):
    for words in commands(page.read_text()):
        check(words)


def test_a_wrong_command_is_noticed():
    for wrong in (
        "hypernet-jax restore photo.png --levle 25 -o out.png",
        "python train.py --config=configs/denoise.py:compact --config.network.chanels=16",
        "python evaluate.py --wieghts=denoise",
        "python experiments/no_such.py",
        "make tea",
        "pip install '.[everything]'",
        "frobnicate",
    ):
        page = f"```sh\n{wrong}\n```\n"
        (words,) = commands(page)
        with pytest.raises((AssertionError, OSError, AttributeError, KeyError)):
            check(words)


@every_page
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [
        target
        for target in targets
        if not target.startswith(("http://", "https://")) and not (page.parent / target).exists()
    ]
    assert not missing


@every_page
def test_pages_include_what_there_is(page):
    """`make docs` puts files of the repository into pages."""
    for included in re.findall(r'^--8<-- "(.*)"$', page.read_text(), re.MULTILINE):
        assert (REPOSITORY / included).exists()


def test_the_page_of_the_command_has_every_command(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "tools")
    from docs_hooks import help_of_every_command

    text = help_of_every_command()
    for command in ("restore", "estimate", "serve", "demo", "prepare", "weights", "export"):
        assert f"\n## {command}\n\n```text\nusage: hypernet-jax {command} " in text
