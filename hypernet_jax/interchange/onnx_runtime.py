"""The network for one level, run by ONNX Runtime."""

import dataclasses
from collections.abc import Callable

import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.features import Constant
from hypernet_jax.hypernet import Theta
from hypernet_jax.interchange.portable import bake
from hypernet_jax.model import Model

__all__ = ["onnx_network"]


def onnx_network(
    model: Model, theta: Theta, level: float
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Makes a function of images for one level.

    Args:
      model: network, hypernetwork and task.
      theta: what training made.
      level: in people's units.

    Returns:
      (inputs (N, H, W, C) float32 in [0, 1], valid (N, 2)) -> restored, like `apply_network`: of
      each image only its first `valid` rows and columns count, and the rest is 0.

    Raises:
      UserError: if onnx or onnxruntime is not installed, or the network cannot be exported.
    """
    try:
        import onnxruntime

        from hypernet_jax.interchange.onnx_model import export_onnx
    except ModuleNotFoundError as error:
        if error.name not in ("onnx", "onnxruntime"):
            raise
        raise UserError(
            f"The backend onnxruntime needs {error.name}: install hypernet-jax[onnxruntime], or "
            "take the backend jax."
        ) from None
    # With its kernels baked in the network need not make them anew for every tile.
    baked, _ = bake(model, theta, {}, level)
    plain = dataclasses.replace(
        model, hypernet=dataclasses.replace(model.hypernet, features=Constant())
    )
    session = onnxruntime.InferenceSession(
        export_onnx(plain, baked, metadata={}).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )

    def apply(inputs: np.ndarray, valid: np.ndarray) -> np.ndarray:
        restored = np.zeros(inputs.shape, np.float32)
        for image, (height, width), result in zip(inputs, valid, restored, strict=True):
            planes = np.ascontiguousarray(image[:height, :width].transpose(2, 0, 1)[None])
            result[:height, :width] = session.run(None, {"image": planes})[0][0].transpose(1, 2, 0)
        return restored

    return apply
