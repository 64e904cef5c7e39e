"""`hypernet-jax --print-completion SHELL`: prints a completion script for the shell."""

import argparse
from collections.abc import Iterator

from hypernet_jax.errors import UserError

__all__ = ["PrintCompletion"]

# Options and arguments that name files or folders, by their destinations.
_FILES = frozenset(
    (
        *("checkpoint", "config", "estimator", "folder", "images", "level_map", "levels"),
        *("output", "report", "weights", "workdir"),
    )
)

# Commands that take a task.
_WITH_TASK = ("estimate", "export", "import-torch", "restore")


class PrintCompletion(argparse.Action):
    """Prints the completion script of a shell for the action's parser, and exits."""

    def __call__(self, parser, namespace, values, option_string=None):
        # Imported here because only completions need it.
        import shtab

        if values not in shtab.SUPPORTED_SHELLS:
            raise UserError(
                f"There are no completions for {values}; choose one of "
                f"{', '.join(shtab.SUPPORTED_SHELLS)}."
            )
        for command, action in _actions(parser):
            if action.dest in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif action.choices is None:
                action.choices = _choices(command, action.dest)
        print(shtab.complete(parser, shell=values))
        parser.exit()


def _actions(
    parser: argparse.ArgumentParser, command: str = ""
) -> Iterator[tuple[str, argparse.Action]]:
    """The actions of the parser and of all its commands, with the command's name."""
    for action in parser._actions:
        yield command, action
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _actions(inner, name)


def _choices(command: str, option: str) -> tuple[str, ...] | None:
    """The values that an option takes; None if they are not a fixed list."""
    import shtab

    from hypernet_jax.cli.export import EXPORT_FORMATS
    from hypernet_jax.images.writing import FORMATS
    from hypernet_jax.inference.backends import PROVIDERS, backend_names
    from hypernet_jax.weights import shipped_tasks

    return {
        ("", "print_completion"): tuple(shtab.SUPPORTED_SHELLS),
        ("export", "format"): EXPORT_FORMATS,
        ("restore", "format"): (*FORMATS, "same"),
        ("restore", "backend"): backend_names(),
        ("restore", "provider"): tuple(PROVIDERS),
        **{(name, "task"): tuple(shipped_tasks()) for name in _WITH_TASK},
    }.get((command, option))
