"""What mkdocs asks for when it builds the site: the page of the command, from its own help."""

import argparse
import os
from collections.abc import Iterator

# The width of the help, whatever the terminal.
os.environ["COLUMNS"] = "88"

_MARK = "<!-- help of every command -->"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def help_of_every_command() -> str:
    """A section for each subcommand, with what `--help` prints."""
    from hypernet_jax.cli.main import _parser

    sections = [f"```text\n{_parser().format_help().rstrip()}\n```"]
    for name, parser in _commands(_parser()):
        sections.append(f"## {name}\n\n```text\n{parser.format_help().rstrip()}\n```")
    return "\n\n".join(sections)


def on_page_markdown(markdown: str, **_) -> str:
    """Fills the mark on the page of the command."""
    return markdown.replace(_MARK, help_of_every_command()) if _MARK in markdown else markdown
