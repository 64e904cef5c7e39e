"""The commands of a page: whether each has a program, a script and options that exist."""

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from unittest import mock

from absl import flags
from ml_collections import config_flags

from hypernet_jax.cli.main import _parser

from .conftest import REPOSITORY

# Programs that are not ours: their options are their own.
FOREIGN = {
    "cp", "curl", "cut", "docker", "ffmpeg", "mike", "mkdir", "mkdocs", "pip", "pipx", "pre-commit",
    "python3", "xprof",
}  # fmt: skip
# Configs that a reader of a tutorial writes.
OF_READERS = ("=shallow_config.py", "impulse_config.py:compact")
# Words of loops in shells.
_KEYWORDS = {"for", "do", "done", "."}
_REDIRECTIONS = {">", "<", ">>"}


def fenced(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    pattern = rf"^( *)```{language}\n(.*?)^\1```$"
    return [text for _, text in re.findall(pattern, page, re.DOTALL | re.MULTILINE)]


def commands(page: str) -> Iterator[list[str]]:
    """The simple commands of all shell blocks, as words."""
    for block in fenced(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("|&;"):
                    if words:
                        yield words
                    words = []
                else:
                    words.append(word)


def _without_redirection(words: list[str]) -> list[str]:
    ends = [index for index, word in enumerate(words) if word in _REDIRECTIONS]
    return words[: ends[0]] if ends else words


def check(words: list[str]) -> None:
    """Fails where a command could not be given like this."""
    words = _without_redirection(words)
    while words and words[0] in {"do", "."}:
        words = words[1:]
    program = words[0] if words else "for"
    if "hypernet-jax" in words and program in {"hypernet-jax", "pipx", "docker"}:
        given = words[words.index("hypernet-jax") + 1 :]
        if program != "docker" or "run" in words:
            _check_ours(given)
    elif program == "python" and words[1] == "-m":
        assert words[2] in {"pytest", "http.server"}, words
        assert all((REPOSITORY / word).exists() for word in words if word.endswith(".py")), words
    elif program == "python":
        _check_script(*words[1:])
    elif program == "make":
        targets = [word for word in words[1:] if "=" not in word]
        makefile = (REPOSITORY / "Makefile").read_text()
        assert all(f"\n{target}:" in makefile for target in targets), words
    elif program == "pip":
        _check_extras(words)
    elif program == "export" and words[1].startswith("HYPERNET_JAX_"):
        variable = words[1].partition("=")[0]
        sources = (REPOSITORY / "hypernet_jax").rglob("*.py")
        assert any(f'"{variable}"' in path.read_text() for path in sources), words
    else:
        assert program in FOREIGN | _KEYWORDS or program.startswith((".venv", "for")), words


def _check_ours(given: list[str]) -> None:
    try:
        _parser(given).parse_args(given)
    except SystemExit as ended:
        assert ended.code == 0, given


def _check_script(script: str, *given: str) -> None:
    """The script exists, its source names each option, and its config has each field."""
    source = (REPOSITORY / script).read_text()
    for word in given:
        name = re.split(r"[=.]", word)[0]
        if name.startswith("--"):
            spelled = (f'"{name}"', f'"{name.removeprefix("--")}"')
            assert any(text in source for text in spelled), f"{script} has no option {name}"
    overrides = [word for word in given if word.startswith("--config")]
    if overrides and "$" not in overrides[0] and not overrides[0].endswith(OF_READERS):
        file, *rest = overrides
        arguments = [script, file.replace("--config=", f"--config={REPOSITORY}/"), *rest]
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        with mock.patch.object(sys, "argv", arguments):  # where it looks for overrides
            values(arguments)
            assert values.config.task


def _check_extras(words: list[str]) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for names in re.findall(r"\[(.*?)\]", " ".join(words)):
        assert set(names.split(",")) <= set(project["optional-dependencies"]), words
