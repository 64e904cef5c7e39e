"""Options of `hypernet-jax restore` that exclude each other."""

import argparse

from hypernet_jax.cli.words import listed
from hypernet_jax.errors import UserError

__all__ = ["check_combinations"]

# What an option does, and the options that say nothing beside it.
_LEVEL = ("level", "scale", "estimator")
_EXCLUDED = {
    "sweep": (
        "writes one PNG sheet of the whole image at levels of its own",
        (*_LEVEL, "levels", "sequence", "level_map", "luma", "chroma", "format", "quality",
         "compare", "skip_existing", "report"),
    ),
    "levels": ("gives each file its level", _LEVEL),
    "sequence": ("finds one level for all", ("levels",)),
}  # fmt: skip
# Values that are as good as none.
_NEUTRAL = {"luma": 1.0, "chroma": 1.0, "format": "png"}


def check_combinations(args: argparse.Namespace) -> None:
    """Raises `UserError` if an option is given that another one excludes."""
    for name, (does, excluded) in _EXCLUDED.items():
        if not _given(args, name):
            continue
        flags = [_flag(other) for other in excluded if _given(args, other)]
        if flags:
            raise UserError(f"{_flag(name)} {does}; leave {listed(flags)} out.")


def _given(args: argparse.Namespace, name: str) -> bool:
    value = getattr(args, name)
    # An empty text is given: it is a mistake, which its reader explains.
    return value is not None and value is not False and value != _NEUTRAL.get(name)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
