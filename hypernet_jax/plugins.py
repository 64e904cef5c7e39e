"""Python modules of the user's own, which register tasks, networks and other parts.

Every command imports those that the environment variable HYPERNET_JAX_PLUGINS names: files or
modules, separated like the folders of PATH.
"""

import functools
import importlib
import importlib.util
import os
import sys
from pathlib import Path

from hypernet_jax.errors import UserError

__all__ = ["VARIABLE", "load_plugins"]

VARIABLE = "HYPERNET_JAX_PLUGINS"


def load_plugins() -> None:
    """Imports all plugins, once per process.

    Raises:
      UserError: if one cannot be imported.
    """
    for name in os.environ.get(VARIABLE, "").split(os.pathsep):
        if name:
            _load(name)


@functools.cache
def _load(name: str) -> None:
    try:
        if not name.endswith(".py"):
            importlib.import_module(name)
            return
        path = Path(name)
        if not path.is_file():
            raise UserError(f"There is no plugin {name}; check {VARIABLE}.")
        if path.stem in sys.modules:
            raise UserError(
                f"The plugin {name} has the name of another module, {path.stem}; rename the file."
            )
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Where `import` and pickle look for it.
        sys.modules[path.stem] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[path.stem]
            raise
    except UserError:
        raise
    # It may raise anything.
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".rstrip(".")
        raise UserError(f"The plugin {name} cannot be loaded ({reason}); mend it.") from error
