"""The Python code in the README runs, and links between pages are valid."""

import re

import pytest

from .conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")),
         *sorted((REPOSITORY / "integrations").rglob("*.md"))]  # fmt: skip


def test_the_first_python_of_the_readme_runs():
    block = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL)[0]
    found: dict = {}
    exec(block, found)
    assert found["restored"].shape == (400, 600, 3)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [
        target
        for target in targets
        if not target.startswith(("http://", "https://")) and not (page.parent / target).exists()
    ]
    assert not missing
