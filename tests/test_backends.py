"""Backends: the restorer's results are the same whatever computes the networks."""

import jax
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from hypernet_jax import Restorer, UserError, make_model
from hypernet_jax.cli.main import main
from hypernet_jax.inference import backends
from hypernet_jax.inference.backends import register_backend
from hypernet_jax.networks.bank import apply_bank

from .commands import refuse
from .models import tiny_config, tiny_theta


class Interpreted:
    """JAX without compilation; each tile alone, in its own size."""

    name = "interpreted"
    most_at_once = 2
    memory_factor = 1.0
    any_size = True

    def __init__(self, model, theta, params):
        self._model, self._theta, self._params = model, theta, params

    def memory_on_map(self, features):
        return features

    def prepare(self, level):
        params = self._params(level)

        def network(inputs, valid):
            restored = np.zeros(inputs.shape, np.float32)
            for tile, (height, width), made in zip(inputs, valid, restored, strict=True):
                with jax.disable_jit():
                    made[:height, :width] = self._model.apply(params, tile[None, :height, :width])[
                        0
                    ]
            return restored

        return network

    def prepare_map(self, banks, *, has_constant):
        def network(inputs, valid, weights):
            restored = np.zeros(inputs.shape, np.float32)
            if has_constant:
                weights = np.concatenate([np.ones_like(weights[..., :1]), weights], axis=-1)
            for tile, own, (height, width), made in zip(
                inputs, weights, valid, restored, strict=True
            ):
                part = np.s_[None, :height, :width]
                network, shared = self._model.network, self._theta["shared"]
                made[:height, :width] = apply_bank(network, banks, shared, own[part], tile[part])[0]
            return restored

        return network


def test_providers_of_onnx_runtime(photograph, tmp_path, monkeypatch, capsys):
    parts = make_model(tiny_config()), tiny_theta(tiny_config())
    cpu = Restorer(*parts, backend="onnxruntime:cpu")
    image = photograph[:40, :50]
    expected = Restorer(*parts, backend="onnxruntime").restore(image, level=25)
    np.testing.assert_array_equal(cpu.restore(image, level=25), expected)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match="no provider openvino, only cpu; install onnxruntime-open"):
        Restorer(*parts, backend="onnxruntime:openvino")
    with pytest.raises(UserError, match="Unknown provider 'abacus'; choose one of cpu, cuda"):
        Restorer(*parts, backend="onnxruntime:abacus")
    # Operators that the provider lacks run on the CPU.
    asked = []

    def session(content, providers):
        asked.append(providers)
        return make(content, providers=["CPUExecutionProvider"])

    make = onnxruntime.InferenceSession
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    cuda = Restorer(*parts, backend="onnxruntime:cuda")
    assert cuda.backend.name == "onnxruntime:cuda" and cuda.backend.note is None
    np.testing.assert_array_equal(cuda.restore(image, level=25), expected)
    assert asked == [there] and "the CPU computed instead" in cuda.backend.note
    Image.fromarray(image).save(tmp_path / "a.png")
    command = ["restore", tmp_path / "a.png", "--task", "denoise", "--level", "5"]
    main([*map(str, command), "--provider", "cuda", "-o", str(tmp_path / "b.png")])
    assert "onnxruntime:cuda does not start on this machine" in capsys.readouterr().err
    command = ["restore", tmp_path / "a.png", "--task", "denoise", "--level", 5, "-o", tmp_path]
    options = ("--backend", "jax", "--provider", "cuda")
    assert "for the backend onnxruntime" in refuse(capsys, *command, *options)


def test_a_backend_of_ones_own(photograph, monkeypatch):
    monkeypatch.setattr(backends, "_BACKENDS", dict(backends._BACKENDS))
    register_backend("interpreted", Interpreted)
    parts = make_model(tiny_config()), tiny_theta(tiny_config())
    own, xla = (Restorer(*parts, backend=name, memory=2) for name in ("interpreted", "jax"))
    assert own.backend.name == "interpreted"
    image = photograph[:120, :333]
    for level in (25, np.linspace(0, 50, 333) * np.ones((120, 1))):
        difference = own.restore(image, level=level).astype(int) - xla.restore(image, level=level)
        assert np.abs(difference).max() <= 1
    with pytest.raises(UserError, match="a backend 'interpreted' already"):
        register_backend("interpreted", Interpreted)
    with pytest.raises(UserError, match="choose one of auto, jax, onnxruntime, interpreted"):
        Restorer(*parts, backend="abacus")
