"""`hypernet-jax --print-completion SHELL`: what a shell reads to complete the command."""

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
_BACKENDS = ("auto", "jax", "onnxruntime")
_PROVIDERS = ("cpu", "cuda", "rocm", "coreml", "directml", "webgpu", "openvino")
_SHELLS = ("bash", "zsh", "tcsh", "fish", "powershell")
_EXPORTS = ("stablehlo", "onnx", "safetensors", "darktable")


class PrintCompletion(argparse.Action):
    """Prints the completions of a shell for the parser that it belongs to, and ends."""

    def __call__(self, parser, namespace, values, option_string=None):
        # Only who asks for completions needs it.
        import shtab

        if values not in shtab.SUPPORTED_SHELLS:
            raise UserError(
                f"There are no completions for {values}; choose one of "
                f"{', '.join(shtab.SUPPORTED_SHELLS)}."
            )
        for action in _actions(parser):
            if action.dest in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif (choices := _choices(action)) and action.choices is None:
                action.choices = choices
        print(shtab.complete(parser, shell=values))
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of the parser and of all its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def _choices(action: argparse.Action) -> tuple[str, ...]:
    from hypernet_jax.weights import shipped_tasks

    if action.dest == "format":
        of_export = "stablehlo" in str(action.help)
        return (
            _EXPORTS
            if of_export
            else ("png", "jpeg", "webp", "tiff", "bmp", "avif", "pfm", "jxl", "same")
        )
    choices = {
        "task": tuple(shipped_tasks()),
        "backend": _BACKENDS,
        "provider": _PROVIDERS,
        "print_completion": _SHELLS,
    }
    return choices.get(action.dest, ())
