"""Compiled programs kept on disk, so that the next run starts without compiling."""

import os
import tempfile
from pathlib import Path

import jax

__all__ = ["keep_compiled_programs"]

# The oldest programs go first; a tile's takes a quarter of a megabyte.
_MOST_BYTES = 256 * 2**20


def keep_compiled_programs() -> Path | None:
    """Makes JAX keep what it compiles in the user's cache folder (XDG_CACHE_HOME).

    Leaves everything as it is where JAX_COMPILATION_CACHE_DIR says otherwise,
    or where the folder cannot be written: then programs are compiled afresh.

    Returns:
      The folder, or None.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return None
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "hypernet_jax" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    # RuntimeError: there is no home.
    except (OSError, RuntimeError):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
