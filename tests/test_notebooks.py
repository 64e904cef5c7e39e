"""The notebooks run from top to bottom, in a folder of their own and without a kernel."""

import json

import matplotlib
import pytest

from .conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


def cells(path, kind):
    notebook = json.loads(path.read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    namespace = {"__name__": "__main__"}
    try:
        for index, cell in enumerate(cells(path, "code")):
            exec(compile("".join(cell["source"]), f"{path.name}[{index}]", "exec"), namespace)
    finally:
        plt.close("all")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_hold_no_outputs_and_name_what_there_is(path):
    for cell in cells(path, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None
    for cell in cells(path, "markdown"):
        for word in "".join(cell["source"]).split("`")[1::2]:
            if word.startswith("docs/"):
                assert (REPOSITORY / word).exists(), word
