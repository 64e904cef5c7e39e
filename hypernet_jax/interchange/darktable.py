"""Denoisers for darktable: a folder with a description and an ONNX file.

darktable cuts a photograph into tiles that overlap by `OVERLAP` pixels, mirrored at the borders,
and passes each to the model as sRGB with a map of the noise sigma / 255.
"""

import re
import zlib
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hypernet_jax.blind.parts import PartsEstimator
from hypernet_jax.errors import UserError
from hypernet_jax.hypernet import Theta
from hypernet_jax.interchange.onnx_estimator import with_estimate
from hypernet_jax.interchange.onnx_model import export_onnx
from hypernet_jax.interchange.portable import check_level_map
from hypernet_jax.levels import LevelSpace
from hypernet_jax.model import Model
from hypernet_jax.networks import spec_of
from hypernet_jax.version import __version__

__all__ = ["OVERLAP", "darktable_config", "darktable_model"]

# Overlap of darktable's tiles in pixels, and so the largest reach of a network.
OVERLAP = 64
_NOISE = "noise"


def darktable_model(
    model: Model, theta: Theta, *, estimator: PartsEstimator | None = None
) -> onnx.ModelProto:
    """Builds and checks the ONNX model.

    Inputs "input" (1, 3, height, width), float32 sRGB in [0, 1], and "sigma" (1, 1, height, width),
    the standard deviation of the noise / 255; output "output" like "input", in [0, 1]. Other parts
    of the level are neutral.

    Args:
      model, theta: the model and its parameters.
      estimator: estimates all parts of each tile's level; there is no input "sigma" then.

    Raises:
      UserError: for a network without a noise level, with one channel, or with a reach larger
        than the overlap of tiles.
    """
    space, reach = model.task.space, spec_of(model.network).reach
    if _NOISE not in space.names:
        raise UserError(
            f"darktable sets a noise level, which {model.task.name} does not have; give a denoiser."
        )
    check_level_map(model)
    if model.colours != 3:
        raise UserError("darktable's photographs are in colour; give a network for colour.")
    if reach is None or reach > OVERLAP:
        raise UserError(
            f"The reach of this network is "
            f"{'the whole image' if reach is None else f'{reach} pixels'}, but darktable's tiles "
            f"overlap by only {OVERLAP}, so seams would show; give a network with a smaller reach."
        )

    proto = export_onnx(model, theta, metadata={}, level_map=estimator is None)
    if estimator is not None:
        proto = with_estimate(proto, estimator, space)
    graph = proto.graph
    before = [helper.make_node("Identity", ["input"], ["image"])]
    inputs = [_described("input", 3)]
    constants = {"zero": 0.0, "one": 1.0}
    if estimator is None:
        nodes, values = _levels_of_sigma(space)
        before += nodes
        constants |= values
        inputs.append(_described("sigma", 1))
    after = helper.make_node("Clip", ["restored", "zero", "one"], ["output"])
    tensors = [
        numpy_helper.from_array(np.asarray(value, np.float32), key)
        for key, value in constants.items()
    ]

    made = helper.make_graph(
        [*before, *graph.node, after],
        graph.name,
        inputs,
        [_described("output", 3)],
        [*graph.initializer, *tensors],
    )
    proto.graph.CopyFrom(made)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _described(name: str, channels: int) -> onnx.ValueInfoProto:
    shape: list[str | int | None] = [1, channels, "height", "width"]
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _levels_of_sigma(space: LevelSpace) -> tuple[list[onnx.NodeProto], dict[str, float]]:
    """Nodes from "sigma" to "level", and the constants that they use besides "zero".

    The noise level is 255 times sigma; other parts are neutral.
    """
    constants = {"white": 255.0}
    for axis in space.axes:
        if axis.name == _NOISE:
            constants |= {f"low_{_NOISE}": axis.low, f"high_{_NOISE}": axis.high}
        else:
            constants[f"neutral_{axis.name}"] = axis.neutral
    nodes = [
        helper.make_node("Mul", ["sigma", "white"], ["scaled"]),
        helper.make_node("Clip", ["scaled", f"low_{_NOISE}", f"high_{_NOISE}"], [_NOISE]),
        helper.make_node("Mul", ["sigma", "zero"], ["nothing"]),
    ]
    others = [name for name in space.names if name != _NOISE]
    nodes += [helper.make_node("Add", ["nothing", f"neutral_{name}"], [name]) for name in others]
    nodes.append(helper.make_node("Concat", list(space.names), ["level"], axis=1))
    return nodes, constants


def darktable_config(model: Model, name: str, *, estimates: bool = False) -> dict[str, Any]:
    """The content of config.json.

    Args:
      model: as for `darktable_model`.
      name: name of the weights; the model's id is made of it, in lower case and with hyphens.
      estimates: the model estimates the level.
    """
    auto = "-auto" if estimates else ""
    strength = "it estimates its strength" if estimates else "one network for every strength"
    return {
        "id": f"denoise-hypernet-{_slug(name)}{auto}",
        "name": f"hypernet_jax {name}{auto}",
        "description": f"{model.task.title}; {strength}",
        "task": "denoise",
        "backend": "onnx",
        "version": __version__,
        "arch": "hypernet",
        "tiling": True,
        "num_inputs": 1 if estimates else 2,
        "model_card": {
            "scope": "single-image denoising",
            "long_description": (
                f"{model.task.title}, exported by hypernet_jax. The kernels of the network depend "
                "on the degradation level of the photograph."
            ),
            "license": "see the model card of the weights",
        },
    }


def _slug(name: str) -> str:
    """The name in lower-case ASCII letters, digits and hyphens, and a number if that differs."""
    slug = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    if slug == name:
        return slug
    return "-".join(filter(None, (slug, f"{zlib.crc32(name.encode()):08x}")))
