"""Backends that compute the generated networks: XLA on any device, or ONNX Runtime."""

import functools
import importlib.util
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from flax import traverse_util

from hypernet_jax.errors import UserError, is_device_full
from hypernet_jax.hypernet import Theta
from hypernet_jax.inference.ensemble import ApplyTiles
from hypernet_jax.levels import Level
from hypernet_jax.model import Model
from hypernet_jax.networks import apply_network
from hypernet_jax.networks.bank import apply_bank
from hypernet_jax.programs import compiled

__all__ = [
    "PROVIDERS",
    "Backend",
    "OnnxRuntimeBackend",
    "XlaBackend",
    "backend_names",
    "make_backend",
    "register_backend",
]

AUTO = "auto"
# ONNX Runtime's execution providers: its name for each, and the package that contains it.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "rocm": ("ROCMExecutionProvider", "onnxruntime-rocm"),
    "coreml": ("CoreMLExecutionProvider", "onnxruntime for macOS"),
    "directml": ("DmlExecutionProvider", "onnxruntime-directml"),
    "webgpu": ("WebGpuExecutionProvider", "onnxruntime-webgpu"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
}
# Networks to cache, one per level; a compact one takes 2 MB, the published size 6 MB.
_CACHED_LEVELS = 32

Params = Callable[[Level], dict]


class Backend(Protocol):
    """Computes the network of any level.

    Attributes:
      name: its name in `make_backend`.
      most_at_once: how many batches of tiles it can compute at once, from threads.
      memory_factor: its working memory, relative to that of XLA, which `bytes_per_pixel` bounds.
      any_size: tiles may have any size and padding is free; otherwise each size is a program to
        compile, and padding is computed too.
    """

    name: str
    most_at_once: int
    memory_factor: float
    any_size: bool

    def memory_on_map(self, features: int) -> float:
        """Its working memory with a level map of so many features, relative to that without."""
        ...

    def prepare(self, level: Level) -> ApplyTiles:
        """The network for one level: (tiles (N, H, W, C), valid (N, 2)) -> restored tiles.

        Only the first `valid` rows and columns of each tile are valid. Threads may call it.
        """
        ...

    def prepare_map(self, banks: Mapping[str, Any], *, has_constant: bool) -> ApplyTiles:
        """The network for a level per pixel: (tiles, valid, weights) -> restored tiles.

        Args:
          banks: generated parameters by path, (D, ...): a pixel's kernels are weighted sums of
            these D.
          has_constant: the first weight is 1 at every pixel; then the weights of tiles are
            (N, H, W, D - 1), otherwise (N, H, W, D).

        Raises:
          UserError: if the network does not support a level per pixel.
        """
        ...


class XlaBackend:
    """Computes the network with JAX; compiles one program per tile size, for all levels."""

    name = "jax"
    memory_factor = 1.0
    any_size = False

    def __init__(self, model: Model, theta: Theta, params: Params):
        self.apply = compiled(apply_network, model.network)
        self._apply_bank = compiled(apply_bank, model.network)
        self._shared = theta["shared"]
        self._params = params
        # On CPUs XLA uses a single core for convolutions with few channels, such as those of the
        # shipped networks, so one batch per core can run at a time.
        on_cpu = jax.default_backend() == "cpu"
        self.most_at_once = min(os.cpu_count() or 1, 8) if on_cpu else 1

    def memory_on_map(self, features: int) -> float:
        # As XLA plans it for the shipped networks and two to eight features (tests/test_tiles.py).
        return 6.0 + features / 4

    def prepare(self, level: Level) -> ApplyTiles:
        params = self._params(level)
        return _computed(lambda inputs, valid: self.apply(params, inputs, valid=valid))

    def prepare_map(self, banks: Mapping[str, Any], *, has_constant: bool) -> ApplyTiles:
        def apply(inputs: np.ndarray, valid: np.ndarray, weights: np.ndarray) -> jax.Array:
            if has_constant:
                weights = np.concatenate([np.ones_like(weights[..., :1]), weights], axis=-1)
            return self._apply_bank(banks, self._shared, weights, inputs, valid=valid)

        return _computed(apply)


def _computed(apply: Callable[..., jax.Array]) -> ApplyTiles:
    def network(*arrays: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(apply(*arrays))
        except jax.errors.JaxRuntimeError as error:
            if not is_device_full(error):
                raise
            raise UserError(
                "The device does not have enough memory for tiles of this size; allow less with "
                "--memory (memory=... in Python)."
            ) from None

    return network


class OnnxRuntimeBackend:
    """Computes the network with ONNX Runtime: one session per level, all from one graph.

    Level maps use further graphs, which weight the results of several kernels at each pixel.

    Args:
      model, theta: the model and its parameters.
      params: level -> the network's parameters.
      provider: one of `PROVIDERS`; operators that it does not support run on the CPU.

    Raises:
      UserError: if onnx or onnxruntime is not installed or has no such provider, or the network
        cannot be exported.
    """

    name = "onnxruntime"
    # Set if the provider could not be used.
    note: str | None = None
    # ONNX Runtime spreads each convolution over all cores.
    most_at_once = 1
    # It holds images in a second layout, and its arena has gaps between tiles of different sizes;
    # measured by benchmarks/large_image.py and benchmarks/level_maps.py.
    memory_factor = 2.0
    any_size = True

    def __init__(self, model: Model, theta: Theta, params: Params, provider: str = "cpu"):
        # Without this it sends telemetry on import, and leaves a file behind.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            import onnxruntime

            from hypernet_jax.interchange.onnx_model import BankGraph, PlainGraph
        except ModuleNotFoundError as error:
            if error.name not in ("onnx", "onnxruntime"):
                raise
            raise UserError(
                f"The backend onnxruntime needs {error.name}: install hypernet-jax[onnxruntime], "
                "or take the backend jax."
            ) from None
        self._runtime = onnxruntime
        self._providers = _providers(onnxruntime, provider)
        if provider != "cpu":
            self.name = f"onnxruntime:{provider}"
        self._params = params
        self._bank_graph = functools.partial(BankGraph, model, shared=theta["shared"])
        self._bank_graphs: dict[tuple[int, bool], BankGraph] = {}
        self._graph = PlainGraph(model, _flat(params(model.task.space.high)))
        self._filling = threading.Lock()
        self.prepare = functools.lru_cache(_CACHED_LEVELS)(self._prepare)

    def memory_on_map(self, features: int) -> float:
        return 1.0 + 0.4 * (features - 1)

    def _prepare(self, level: Level) -> ApplyTiles:
        with self._filling:
            content = self._graph.filled(_flat(self._params(level)))
        return self._session(content)

    def prepare_map(self, banks: Mapping[str, Any], *, has_constant: bool) -> ApplyTiles:
        arrays = {path: np.asarray(bank) for path, bank in banks.items()}
        kind = len(next(iter(arrays.values()))), has_constant
        with self._filling:
            if kind not in self._bank_graphs:
                made = self._bank_graph(banks=arrays, has_constant=has_constant)
                self._bank_graphs[kind] = made
            content = self._bank_graphs[kind].filled(arrays)
        return self._session(content)

    def _session(self, content: bytes) -> ApplyTiles:
        session = self._runtime.InferenceSession(content, providers=self._providers)
        if self._providers[0] not in session.get_providers():
            # The package has the provider, but its device or libraries are missing.
            self.note = f"{self.name} does not start on this machine; the CPU computed instead"
        names = [each.name for each in session.get_inputs()]

        def network(inputs: np.ndarray, valid: np.ndarray, *weights: np.ndarray) -> np.ndarray:
            restored = np.zeros(inputs.shape, np.float32)
            for index, (height, width) in enumerate(valid):
                planes = [
                    np.ascontiguousarray(each[index, :height, :width].transpose(2, 0, 1)[None])
                    for each in (inputs, *weights)
                ]
                (made,) = session.run(None, dict(zip(names, planes, strict=True)))
                restored[index, :height, :width] = made[0].transpose(1, 2, 0)
            return restored

        return network


def _providers(onnxruntime: Any, provider: str) -> list[str]:
    """ONNX Runtime's names of the provider and of the CPU as its fallback."""
    if provider not in PROVIDERS:
        raise UserError(f"Unknown provider {provider!r}; choose one of {', '.join(PROVIDERS)}.")
    there = onnxruntime.get_available_providers()
    name, package = PROVIDERS[provider]
    if name not in there:
        found = [key for key, (value, _) in PROVIDERS.items() if value in there]
        raise UserError(
            f"This ONNX Runtime has no provider {provider}, only {', '.join(found)}; install "
            f"{package} in place of onnxruntime, or choose another provider."
        )
    return [name] if provider == "cpu" else [name, PROVIDERS["cpu"][0]]


def _flat(params: dict) -> dict[str, np.ndarray]:
    return {
        path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(params, sep="/").items()
    }


_BACKENDS: dict[str, Callable[[Model, Theta, Params], Any]] = {
    "jax": XlaBackend,
    "onnxruntime": OnnxRuntimeBackend,
}


def backend_names() -> tuple[str, ...]:
    """The names that `make_backend` takes, without the "onnxruntime:PROVIDER" forms."""
    return AUTO, *_BACKENDS


def register_backend(name: str, make: Callable[[Model, Theta, Params], Backend]) -> None:
    """Adds a backend for `Restorer(backend=...)` and `--backend`.

    Args:
      name: a new name.
      make: (model, theta, level -> the network's parameters) -> backend.
    """
    if name in backend_names():
        raise UserError(f"There is a backend {name!r} already; choose another name.")
    _BACKENDS[name] = make


def make_backend(name: str, model: Model, theta: Theta, params: Params) -> Backend:
    """Returns the backend called `name`.

    Args:
      name: "jax", "onnxruntime", or "auto": ONNX Runtime on a CPU if it is installed and can
        run the network, otherwise JAX. "onnxruntime:PROVIDER" uses one of `PROVIDERS`.
      model, theta: the model and its parameters.
      params: level -> the network's parameters.
    """
    if str(name).startswith("onnxruntime:"):
        return OnnxRuntimeBackend(model, theta, params, provider=name.partition(":")[2])
    if name not in backend_names():
        raise UserError(f"Unknown backend {name!r}; choose one of {', '.join(backend_names())}.")
    if name != AUTO:
        return _BACKENDS[name](model, theta, params)
    installed = all(importlib.util.find_spec(each) for each in ("onnx", "onnxruntime"))
    if jax.default_backend() == "cpu" and installed:
        try:
            return OnnxRuntimeBackend(model, theta, params)
        except UserError:  # the network cannot be exported to ONNX
            pass
    return XlaBackend(model, theta, params)
