"""Python modules of the user's own, which register tasks, networks and other parts.

Every command imports those that the environment variable HYPERNET_JAX_PLUGINS names: files or
modules, separated like the folders of PATH.
"""

import importlib
import importlib.util
import os
import sys
import threading
from pathlib import Path

from hypernet_jax.errors import UserError

__all__ = ["VARIABLE", "load_plugins"]

VARIABLE = "HYPERNET_JAX_PLUGINS"

# Seconds to wait for a plugin that another thread loads. That thread may itself wait for this one,
# if this one imports the module.
_PATIENCE = 60.0

# A plugin may call what loads plugins, so those that are being loaded count as well, but only for
# the thread that loads them: others wait for the lock.
_begun: set[str] = set()
_loaded: set[str] = set()
_lock = threading.RLock()


def load_plugins() -> None:
    """Imports all plugins that are not imported yet.

    Raises:
      UserError: if one cannot be imported.
    """
    for name in os.environ.get(VARIABLE, "").split(os.pathsep):
        key = str(Path(name).resolve()) if name.endswith(".py") else name
        if not name or key in _loaded:
            continue
        if not _lock.acquire(timeout=_PATIENCE):
            continue
        try:
            if key in _begun:
                continue
            _begun.add(key)
            try:
                _load(name)
            except BaseException:
                _begun.discard(key)
                raise
            _loaded.add(key)
        finally:
            _lock.release()


def _load(name: str) -> None:
    try:
        if name.endswith(".py"):
            _load_file(Path(name))
        else:
            importlib.import_module(name)
    except UserError:
        raise
    except ModuleNotFoundError as error:
        if error.name != name:
            raise _broken(name, error) from error
        raise UserError(
            f"There is no module {name} for {VARIABLE}; install it, or give a file, such as "
            f"{name}.py."
        ) from None
    # It may raise anything.
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> UserError:
    reason = f"{type(error).__name__}: {error}".rstrip(".")
    return UserError(f"The plugin {name} cannot be loaded ({reason}).")


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"There is no plugin {path}; check {VARIABLE}.")
    for held in (path.stem, "__main__"):
        file = getattr(sys.modules.get(held), "__file__", None)
        if file is not None and Path(file).resolve() == path.resolve():
            return  # imported already, or the script that runs
    if path.stem in sys.modules:
        raise UserError(
            f"The plugin {path} has the name of another module, {path.stem}; rename the file."
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where `import` and pickle look for it in this process.
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
