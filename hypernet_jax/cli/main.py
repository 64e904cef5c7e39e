"""The `hypernet-jax` command: arguments, and which function they go to.

The work is imported only by the subcommand that does it, so that `--help` and
mistakes answer at once.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Sequence

from hypernet_jax.cli.completion import PrintCompletion
from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.cli.interrupts import stopping_at_once
from hypernet_jax.cli.words import counted
from hypernet_jax.errors import UserError
from hypernet_jax.plugins import load_plugins
from hypernet_jax.version import __version__

__all__ = ["main"]

_DEMO_OUTPUT = "demo-output"


def _restore(args: argparse.Namespace) -> int:
    from hypernet_jax.cli.restore import restore

    return restore(args)


def _serve(args: argparse.Namespace) -> int:
    from hypernet_jax.cli.serve import serve

    return serve(args)


def _demo(args: argparse.Namespace) -> int:
    from hypernet_jax.cli.demo import demo
    from hypernet_jax.weights import shipped_tasks

    given = {task: getattr(args, task) for task in shipped_tasks()}
    chosen = {task: levels for task, levels in given.items() if levels is not None}
    # Its own folder holds nothing but pictures of an earlier run.
    return demo(args.output, chosen, overwrite=args.overwrite or args.output == _DEMO_OUTPUT)


def _info(args: argparse.Namespace) -> int:
    from hypernet_jax.cli.info import info

    return info(args)


def _prepare(args: argparse.Namespace) -> int:
    from hypernet_jax.data.prepare import prepare_dataset

    with stopping_at_once():
        prepared = prepare_dataset(
            args.folder,
            args.output,
            layout=args.layout,
            size=args.size,
            stride=args.stride,
            reduce=args.reduce,
            minimum=args.minimum,
            held_out=args.held_out,
            strict=args.strict,
            overwrite=args.overwrite,
            beam_options=args.beam_options,
            report=lambda sentence: print(sentence, file=sys.stderr),
        )
    written = ", ".join(f"{count} {split}" for split, count in prepared.sub_images.items())
    skipped = f", {prepared.skipped} skipped" * bool(prepared.skipped)
    photographs = counted(prepared.photographs, "photograph")
    print(f"wrote {args.output}: {written} sub-images of {photographs}{skipped}")
    held_out = min(args.held_out, prepared.photographs - 1)
    if args.layout == "folder" and 2 * held_out > prepared.photographs:
        left = counted(prepared.photographs - held_out, "photograph")
        print(
            f"Note: {held_out} of them are held out for validation, which leaves {left} for "
            "training; pass a smaller --held-out to train on more.",
            file=sys.stderr,
        )
    return 0


def _weights(args: argparse.Namespace) -> int:
    from hypernet_jax.checkpoints import load_ema
    from hypernet_jax.model import model_config
    from hypernet_jax.weights import save_weights

    if not args.output.lower().endswith(".safetensors"):
        raise UserError(f"Weights are .safetensors files; name the output {args.output} like that.")
    with stopping_at_once():
        config, theta = load_ema(args.workdir)
        save_weights(
            args.output, theta, model_config(config), half=args.half, overwrite=args.overwrite
        )
    print(f"wrote {args.output}")
    return 0


def _add_restore(restore: argparse.ArgumentParser) -> None:
    from hypernet_jax.tasks import DEFAULT_TASK, TASKS
    from hypernet_jax.weights import shipped_tasks

    restore.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="files, or folders with their subfolders; - reads standard input",
    )
    restore.add_argument(
        "-o",
        "--output",
        required=True,
        help="a file, or a folder for several; - writes to standard output",
    )
    task = restore.add_argument_group("what to do")
    default = f" (default {DEFAULT_TASK})" if DEFAULT_TASK in shipped_tasks() else ""
    task.add_argument("--task", help=", ".join(shipped_tasks()) + default)
    task.add_argument("--weights", help="a .safetensors file instead of the task's own weights")
    levels = [
        f"{name}: {', '.join(f'{axis.name} {axis.low:g}-{axis.high:g}' for axis in space.axes)}"
        for name in shipped_tasks()
        if not TASKS[name].enlarges and (space := TASKS[name].space)
    ]
    task.add_argument(
        "--level",
        help=f"{'; '.join(levels)}; several parts as in noise=15,jpeg=60; or auto to estimate it",
    )
    task.add_argument(
        "--levels", metavar="TABLE",
        help="a .csv or .json file with the level of each image, as `estimate` writes it",
    )  # fmt: skip
    task.add_argument(
        "--sequence", action="store_true",
        help="the images are frames of one recording: one level for all, estimated from a sample",
    )  # fmt: skip
    task.add_argument(
        "--estimator", metavar="FILE", help="a level network that --level auto asks (import-torch)"
    )
    enlarging = ", ".join(name for name in shipped_tasks() if TASKS[name].enlarges)
    task.add_argument("--scale", help=f"factor to enlarge by, for {enlarging}; fractions are fine")
    task.add_argument(
        "--sweep",
        metavar="LEVELS",
        help="write a contact sheet of these levels, e.g. 5,15,25 or 'noise=5; noise=15,jpeg=40'",
    )
    task.add_argument(
        "--blend", type=float, default=1.0, help="share of the restored image, 0 to 1 (default 1)"
    )
    task.add_argument(
        "--level-map", metavar="MASK",
        help="an image of the same proportions: white takes the level in full, black none; or "
        "PART=MASK,... for parts of the level",
    )  # fmt: skip
    for part, what in (("luma", "luminance"), ("chroma", "colour")):
        task.add_argument(
            f"--{part}", type=float, default=1.0, metavar="SHARE",
            help=f"how strongly {what} is restored, as a share of the level, 0 to 2 (default 1)",
        )  # fmt: skip
    task.add_argument(
        "--self-ensemble", action="store_true",
        help="the mean over the image mirrored and turned: a little better, 8 times the work",
    )  # fmt: skip
    files = restore.add_argument_group("files")
    files.add_argument(
        "--format",
        help="png, jpeg, webp, tiff, bmp, avif, pfm, jxl, or same as each input; default: by the "
        "output's ending, png in a folder",
    )
    files.add_argument("--quality", type=int, help="1-100, for jpeg, webp, avif and jxl")
    files.add_argument(
        "--compare", action="store_true", help="also write NAME-compare.png: before and after"
    )
    files.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    files.add_argument(
        "--report", metavar="FILE", help="write what was done to each image, as JSON"
    )
    files.add_argument(
        "--skip-existing", action="store_true", help="leave out what has an output, to resume a run"
    )
    work = restore.add_argument_group("resources")
    work.add_argument("--jobs", type=int, default=2, help="files at a time (default 2)")
    work.add_argument(
        "--memory", type=float, default=640.0, metavar="MB",
        help="what the network may work in, beside the images themselves (default 640)",
    )  # fmt: skip
    work.add_argument(
        "--backend",
        default="auto",
        help="jax; onnxruntime: faster on CPUs, an extra; auto (default): the faster one there is",
    )
    work.add_argument(
        "--provider", metavar="NAME",
        help="what ONNX Runtime computes on: cpu (default), cuda, rocm, coreml, directml, webgpu "
        "or openvino",
    )  # fmt: skip
    _add_beam_options(work)
    work.add_argument("--verbose", action="store_true", help="say which backend computes")
    work.add_argument(
        "--limit", type=float, default=400.0, metavar="MP",
        help="megapixels that an image may have (default 400)",
    )  # fmt: skip
    restore.set_defaults(run=_restore)


def _estimate(args: argparse.Namespace) -> int:
    from hypernet_jax.cli.estimate import estimate

    return estimate(args)


def _add_estimate(estimate: argparse.ArgumentParser) -> None:
    estimate.add_argument("images", nargs="+", metavar="IMAGE", help="files and folders")
    estimate.add_argument("-o", "--output", required=True, help="a .csv or .json file")
    estimate.add_argument("--task", help="task of the levels (default photo)")
    estimate.add_argument("--overwrite", action="store_true", help="replace an existing file")
    estimate.add_argument(
        "--limit", type=float, default=400.0, metavar="MP",
        help="megapixels that an image may have (default 400)",
    )  # fmt: skip
    estimate.set_defaults(run=_estimate)


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--port", type=int, default=7860)
    serve.add_argument(
        "--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: this one)"
    )
    serve.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME",
        help="answer to this name too, as behind a proxy (may be given again)",
    )  # fmt: skip
    serve.add_argument(
        "--max-upload", type=float, default=100.0, metavar="MB", help="largest file (default 100)"
    )
    serve.add_argument(
        "--limit", type=float, default=50.0, metavar="MP",
        help="megapixels of a photograph, and of its enlargement (default 50)",
    )  # fmt: skip
    serve.add_argument(
        "--queue",
        type=int,
        default=32,
        help="requests that may wait; more are refused (default 32)",
    )
    serve.set_defaults(run=_serve)


def _import_torch(args: argparse.Namespace) -> int:
    from hypernet_jax.cli.import_torch import import_torch

    return import_torch(args)


def _export(args: argparse.Namespace) -> int:
    from hypernet_jax.cli.export import export

    return export(args)


def _add_import_torch(torch: argparse.ArgumentParser) -> None:
    from hypernet_jax.tasks import TASKS

    torch.add_argument("checkpoint", metavar="FILE", help="a .pth, or a .safetensors state dict")
    torch.add_argument("--task", required=True, help=", ".join(TASKS))
    torch.add_argument("--level", help="of a plain network: the level that it was trained for")
    torch.add_argument(
        "--residual-output",
        action="store_true",
        help="of a plain network: it predicts the correction, not the image",
    )
    torch.add_argument("-o", "--output", required=True, help="a .safetensors file")
    torch.add_argument("--overwrite", action="store_true", help="replace an existing file")
    torch.set_defaults(run=_import_torch)


def _add_export(export: argparse.ArgumentParser) -> None:
    from hypernet_jax.weights import shipped_tasks

    source = export.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--task", help=f"the shipped weights of a task: {', '.join(shipped_tasks())}"
    )
    source.add_argument("--weights", help="a .safetensors file")
    export.add_argument("--format", required=True, help="stablehlo, onnx, safetensors or darktable")
    levels = export.add_mutually_exclusive_group()
    levels.add_argument(
        "--level", help="bake in this level: a plain, smaller network; auto: it estimates its level"
    )
    levels.add_argument(
        "--level-map",
        action="store_true",
        help="take a level for each pixel, as an array of the image's size",
    )
    export.add_argument("-o", "--output", required=True, help="output file")
    export.add_argument("--overwrite", action="store_true", help="replace an existing file")
    export.set_defaults(run=_export)


def _add_demo(demo: argparse.ArgumentParser) -> None:
    from hypernet_jax.tasks import TASKS
    from hypernet_jax.weights import shipped_tasks

    demo.add_argument("-o", "--output", default=_DEMO_OUTPUT, help="folder for the pictures")
    demo.add_argument("--overwrite", action="store_true", help="replace existing pictures")
    for task in shipped_tasks():
        example = TASKS[task].space.format_list(TASKS[task].demo_levels)
        demo.add_argument(
            f"--{task}",
            metavar="LEVELS",
            help=f'only {task}, and others that are named, at these levels; default: "{example}"',
        )
    demo.set_defaults(run=_demo)


def _add_info(info: argparse.ArgumentParser) -> None:
    which = info.add_mutually_exclusive_group(required=True)
    which.add_argument("--config", help="FILE.py or FILE.py:VARIANT")
    which.add_argument("--weights", help="shipped weights by name, or a .safetensors file")
    info.add_argument(
        "--step",
        action="store_true",
        help="with --config: also the arithmetic and memory of a training step (compiles it)",
    )
    info.set_defaults(run=_info)


def _add_prepare(prepare: argparse.ArgumentParser) -> None:
    prepare.add_argument(
        "folder",
        help="folder or address of photographs; with --layout div2k that of DIV2K's HR folders",
    )
    prepare.add_argument("-o", "--output", required=True, help="folder or address to make")
    prepare.add_argument("--layout", default="folder", help="folder (default) or div2k")
    prepare.add_argument(
        "--size", type=int, default=256, help="side of the stored sub-images (default: 256)"
    )
    prepare.add_argument(
        "--stride", type=int, help="distance between sub-images (default: 3/4 of the size)"
    )
    prepare.add_argument(
        "--reduce",
        type=int,
        default=1,
        metavar="FACTOR",
        help="make the photographs smaller first, by a whole factor; averages their own noise",
    )
    prepare.add_argument(
        "--minimum", type=int, default=96, help="skip photographs with a shorter side (default: 96)"
    )
    prepare.add_argument(
        "--held-out",
        type=int,
        default=8,
        help="photographs kept for validation (layout folder; default: 8)",
    )
    prepare.add_argument(
        "--strict",
        action="store_true",
        help="refuse what is otherwise skipped: unreadable or too small images, copies of held-out "
        "ones",
    )
    prepare.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    _add_beam_options(prepare)
    prepare.set_defaults(run=_prepare)


def _add_beam_options(command: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    command.add_argument(
        "--beam-options", metavar="OPTIONS",
        help="do it on Apache Beam (extra beam) with these options of a pipeline, in quotes and "
        "after =; empty: in this process",
    )  # fmt: skip


def _add_weights(weights: argparse.ArgumentParser) -> None:
    weights.add_argument("workdir")
    weights.add_argument("-o", "--output", required=True, help="a .safetensors file")
    weights.add_argument("--half", action="store_true", help="16-bit floats: half the size")
    weights.add_argument("--overwrite", action="store_true", help="replace an existing file")
    weights.set_defaults(run=_weights)


# Each command: what it does, and what adds its arguments.
_COMMANDS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "restore": ("restore image files and folders of them", _add_restore),
    "estimate": ("write a table of the levels of photographs", _add_estimate),
    "serve": ("a page with a slider, in the browser", _add_serve),
    "demo": ("restore sample photographs with all shipped weights", _add_demo),
    "info": ("parameter counts as JSON", _add_info),
    "prepare": ("make a training dataset from photographs", _add_prepare),
    "weights": ("write a training run's weights to one file", _add_weights),
    "import-torch": ("turn a PyTorch checkpoint into weights", _add_import_torch),
    "export": ("write a model that runs without this package", _add_export),
}


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, with the arguments of the command that is asked for.

    Those of the others would import JAX for nothing; completions need all.
    """
    parser = argparse.ArgumentParser(
        prog="hypernet-jax",
        description="Adaptive image restoration: one network for every level of a degradation.",
    )
    parser.add_argument("--version", action="version", version=f"hypernet-jax {__version__}")
    parser.add_argument(
        "--print-completion", metavar="SHELL", action=PrintCompletion,
        help="print completions for bash, zsh, tcsh, fish or powershell",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    asked = next((argument for argument in arguments if not argument.startswith("-")), None)
    of_all = any(argument.startswith("--p") for argument in arguments) and asked not in _COMMANDS
    if asked in _COMMANDS and not {"-h", "--help"} & set(arguments):
        load_plugins()  # arguments depend on the tasks that there are
    for name, (summary, add_arguments) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        command.set_defaults(parser=command)
        if of_all or name == asked:
            add_arguments(command)
    return parser


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments; a mistake in those of a command is reported with the command's usage."""
    args, unknown = _parser(arguments).parse_known_args(arguments)
    command: argparse.ArgumentParser = vars(args).pop("parser")
    if unknown:
        known = re.findall(r"--[a-z-]+", command.format_usage())
        closest = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
        hint = f"; did you mean {closest[0]}?" if closest else ""
        command.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status (mistakes exit with status 2)."""
    with exit_with_sentence():
        with stopping_at_once():
            arguments = sys.argv[1:] if argv is None else argv
            args = _parsed(arguments)

            from hypernet_jax.runtime import ordinary_arithmetic, start_jax

            start_jax()
        with ordinary_arithmetic():
            return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
