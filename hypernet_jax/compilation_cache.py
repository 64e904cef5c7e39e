"""A cache of compiled programs on disk, so that the next run starts without compiling."""

import os
import tempfile
from pathlib import Path

import jax

__all__ = ["keep_compiled_programs"]

# Beyond this the oldest programs are removed; one tile size takes a quarter of a megabyte.
_MOST_BYTES = 256 * 2**20


def keep_compiled_programs() -> Path | None:
    """Makes JAX cache compiled programs in the user's cache folder (XDG_CACHE_HOME).

    Does nothing if JAX_COMPILATION_CACHE_DIR is set or the folder is not writable.

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
    # RuntimeError: no home folder.
    except (OSError, RuntimeError):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", _MOST_BYTES)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
