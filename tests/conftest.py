"""Fixtures: real photographs, small models, a prepared dataset."""

import gc
import os
import pkgutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import hypothesis
import pytest
from jaxtyping import install_import_hook

REPOSITORY = Path(__file__).parent.parent

# Most of the suite's time is compilation, and many tests, some in separate processes,
# compile the same small programs: these are optimised little and cached. JAX reads this when it is
# imported.
_cache = tempfile.TemporaryDirectory(prefix="hypernet_jax_tests_")
_flags = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if version("jaxlib").startswith("0.10."):  # later releases do not know this flag
    _flags += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _flags)
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _cache.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

from . import array_types  # noqa: E402

# Not `beam`: what it sends to other processes must stay as it is.
install_import_hook(
    [
        f"hypernet_jax.{module.name}"
        for module in pkgutil.iter_modules([str(REPOSITORY / "hypernet_jax")])
        if module.name != "beam"
    ],
    f"{array_types.__name__}.{array_types.check_arrays.__name__}",
)

# TensorBoard's writer imports torch for seconds where it is installed: processes that tests start
# do not find it, as on the machines of most users.
_without_torch = tempfile.TemporaryDirectory(prefix="hypernet_jax_tests_")
(Path(_without_torch.name) / "torch.py").write_text('raise ImportError("hidden by the tests")')
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, (_without_torch.name, os.environ.get("PYTHONPATH")))
)


# The files that take longest, in this order, begin first, so that all workers end together.
LONGEST = [
    f"test_{name}.py"
    for name in (
        "page", "training", "buckets", "export", "mesh", "beam", "camera", "degradations", "web",
        "tiles", "commands", "onnx_estimator", "estimator", "hypernet", "import_torch", "pages",
        "comparison", "notebooks", "warm_start", "distillation", "level_forms", "blind", "data",
    )
]  # fmt: skip


def pytest_collection_modifyitems(items):
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


# Examples take longer where other programs run.
hypothesis.settings.register_profile("unhurried", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_collection_finish():
    """What the imports have made stays, so that the garbage collector need not visit it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def test_sets() -> Path:
    """The published test sets, if this machine has them."""
    folder = Path(
        os.environ.get("HYPERNET_JAX_TEST_SETS", REPOSITORY.parent / "shared" / "data" / "test")
    )
    if not folder.is_dir():
        pytest.skip("the test sets are not on this machine; set HYPERNET_JAX_TEST_SETS")
    return folder


@pytest.fixture(scope="session")
def photographs() -> Path:
    """A folder of real photographs from an installed package."""
    import skimage

    return Path(skimage.__file__).parent / "data"


@pytest.fixture(scope="session")
def photograph(photographs):
    """A real colour photograph, uint8 (400, 600, 3)."""
    from hypernet_jax.images.reading import read_image

    return read_image(photographs / "coffee.png")


@pytest.fixture(scope="session")
def default_data(tmp_path_factory):
    """The default dataset, in a cache for this test session."""
    from hypernet_jax.data.prepare import default_dataset

    previous = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    try:
        return default_dataset()
    finally:
        if previous is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = previous
