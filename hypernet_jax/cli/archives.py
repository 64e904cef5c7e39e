"""`hypernet-jax restore` of a folder or an address on Apache Beam."""

import argparse
import dataclasses
from pathlib import Path, PurePath

from hypernet_jax import beam
from hypernet_jax.errors import UserError
from hypernet_jax.files import is_address
from hypernet_jax.images.writing import is_writable, suffix_of
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.photographs.archives import Loading, plan_archive, restore_archive
from hypernet_jax.photographs.batch import Outcome
from hypernet_jax.photographs.restoring import Options
from hypernet_jax.storage import ensure_place, resolved_path

__all__ = ["check_archive", "is_archive", "run_archive"]

# What needs all photographs in one process, or is for one of them.
_REFUSED = ("sweep", "sequence", "levels", "compare", "estimator", "level_map")


def is_archive(args: argparse.Namespace) -> bool:
    """Whether the arguments ask for Apache Beam: by its options, or by addresses."""
    if args.beam_options is not None:
        return True
    one = args.images[0] if len(args.images) == 1 else ""
    return is_address(one) or (is_address(args.output) and Path(one).is_dir())


def check_archive(args: argparse.Namespace) -> None:
    """Raises `UserError` for arguments that an archive does not take."""
    for name in _REFUSED:
        if getattr(args, name):
            raise UserError(
                f"--{name.replace('_', '-')} is not for archives on Apache Beam; leave it out, or "
                "restore a local folder without --beam-options."
            )
    one = args.images[0] if len(args.images) == 1 else ""
    if not (is_address(one) or (one and Path(one).is_dir())):
        raise UserError("An archive is one folder or address; give that as the only input.")
    output = PurePath(args.output)
    if args.output == "-" or (is_writable(output) and not Path(output).is_dir()):
        if is_address(one):
            what = "standard output" if args.output == "-" else f"the file {args.output}"
            raise UserError(
                f"A single photograph at an address is not read, so {one} cannot be restored to "
                f"{what}; give a folder or address as output, or copy the photograph here first."
            )
        raise UserError(
            f"An archive needs a folder or address as output, and {args.output} is none."
        )
    beam.check_options(args.beam_options or "")


def run_archive(
    restorer: Restorer, options: Options, args: argparse.Namespace, *, backend: str
) -> list[Outcome]:
    """Restores the archive; returns the outcomes in order."""
    source, output = resolved_path(args.images[0]), resolved_path(args.output)
    form = "png" if args.format is None else args.format
    jobs = plan_archive(source, output, lambda name: suffix_of(form, name))
    ensure_place(output)
    return restore_archive(
        jobs,
        # Names of parts and numbers, which can be sent to other machines.
        dataclasses.replace(options, level=options.level.named),
        output=output,
        loading=Loading(
            args.weights or restorer.model.task.name, args.memory, backend, args.self_ensemble
        ),
        space=restorer.space,
        beam_options=args.beam_options or "",
        skip_existing=args.skip_existing,
    )
