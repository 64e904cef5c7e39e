"""Releases, and what runs for every change: the targets that they name exist."""

import re
import sys

import pytest
import yaml

from hypernet_jax import __version__

from .conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))
import release

MAKEFILE = (REPOSITORY / "Makefile").read_text()


def test_the_version_is_that_of_the_package():
    assert release.version() == __version__


@pytest.mark.parametrize(
    ("changelog", "found"),
    [
        ("## 1.2.0 - 2030-01-31\n", True),
        ("## [1.2.0] - 2030-01-31\n", True),
        ("## Unreleased\n\n- 1.2.0\n", False),
        ("## 1.2.01\n", False),
        ("## 11.2.0\n", False),
    ],
)
def test_a_version_without_a_section_is_noticed(changelog, found):
    assert release.has_section(changelog, "1.2.0") == found


def test_the_workflow_makes_what_there_is():
    workflow = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())
    targets = workflow["jobs"]["make"]["strategy"]["matrix"]["target"]
    assert all(f"\n{target}:" in MAKEFILE for target in [*targets, "release"])


def test_hooks_download_nothing():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in hooks["repos"]} == {"local"}
    for repo in hooks["repos"]:
        for hook in repo["hooks"]:
            target = hook["entry"].removeprefix("make ")
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)
