"""What mkdocs asks for when it builds the site: the page of the command, from its own help."""

import contextlib
import io
import os
import re

# The width of the help, whatever the terminal.
os.environ["COLUMNS"] = "88"

_MARK = "<!-- help of every command -->"


def _help(*arguments: str) -> str:
    """What `hypernet-jax ARGUMENTS --help` prints."""
    from hypernet_jax.cli.main import main

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*arguments, "--help"])
    return printed.getvalue().rstrip()


def help_of_every_command() -> str:
    """The help of the command, and a section for each subcommand."""
    overview = _help()
    sections = [f"```text\n{overview}\n```"]
    for name in re.findall(r"^    ([a-z-]+)  ", overview, re.MULTILINE):
        sections.append(f"## {name}\n\n```text\n{_help(name)}\n```")
    return "\n\n".join(sections)


def on_page_markdown(markdown: str, **_) -> str:
    """Fills the mark on the page of the command."""
    return markdown.replace(_MARK, help_of_every_command()) if _MARK in markdown else markdown
