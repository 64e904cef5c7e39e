"""Reads a PyTorch state dict without running any code in the file."""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from hypernet_jax.errors import UserError
from hypernet_jax.files import local_path

__all__ = ["read_state_dict"]

# safetensors' names of the types that are read.
_KINDS = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}
# Keys under which training scripts store the state dict among the rest of their state.
_WRAPPERS = ("state_dict", "model_state_dict", "params_ema", "params", "model")


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a PyTorch checkpoint.

    Args:
      path: a file written by `torch.save` (needs the extra `torch`), or a .safetensors file.

    Returns:
      float32 arrays by name. A state dict under "state_dict" or a similar key is unwrapped, and
      the "module." that PyTorch's parallel wrappers add to names is removed.

    Raises:
      UserError: if the file is missing, damaged, or holds anything but finite tensors. Only
        tensors and plain containers are read; code in a pickle is never run.
    """
    path = local_path(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}; check the path.")
    if path.suffix.lower() == ".safetensors":
        state = _read_safetensors(path)
    else:
        state = _to_arrays(_unwrap(_read_pickle(path)), path)
    if not state:
        raise UserError(f"The checkpoint {path} holds no tensors; give a state dict.")
    for name, array in state.items():
        if not np.isfinite(array).all():
            raise UserError(
                f"The entry {name!r} of {path} has values that are not finite; "
                "give an earlier checkpoint of that training run."
            )
    plain = {_plain_name(name): array for name, array in state.items()}
    if len(plain) < len(state):
        raise UserError(
            f"Some names of entries of {path} differ only by 'module.'; save the state dict of the "
            "model itself, without its parallel wrapper."
        )
    return plain


def _plain_name(name: str) -> str:
    return name.removeprefix("module.").replace(".module.", ".")


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="np") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            for name, kind in kinds.items():
                if kind not in _KINDS:
                    raise UserError(
                        f"The entry {name!r} of {path} is of type {kind}, which is not read; "
                        "convert it to 32-bit floats."
                    )
            return {name: np.asarray(file.get_tensor(name), np.float32) for name in kinds}
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise UserError(
            f"The checkpoint {path} is damaged and cannot be read ({_first_sentence(error)})."
        ) from None


def _read_pickle(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise UserError(
            "Reading a PyTorch checkpoint needs PyTorch: install hypernet-jax[torch], or save "
            "the state dict as .safetensors, which does not need it."
        ) from None
    if not _begins_like_a_checkpoint(path):
        raise UserError(f"{path} is not a PyTorch checkpoint; give a file written by torch.save.")
    try:
        # PyTorch's warnings about old pickles do not concern the user.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise UserError(
                f"The checkpoint {path} holds Python objects besides its tensors, which could run "
                "any code and were not loaded; save only its state dict."
            ) from None
        raise UserError(f"{path} is damaged or not a PyTorch checkpoint.") from None
    # A damaged archive may make PyTorch raise anything.
    except Exception as error:
        if "TorchScript" in str(error):
            raise UserError(
                f"{path} is a TorchScript archive, a program; save model.state_dict() instead."
            ) from None
        raise UserError(
            f"The checkpoint {path} is damaged and cannot be read ({_first_sentence(error)})."
        ) from None


def _begins_like_a_checkpoint(path: Path) -> bool:
    # A zip archive, or a pickle of the old format, which begins with its protocol version.
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def _unwrap(content: Any) -> Any:
    while isinstance(content, Mapping):
        inner = next((content[name] for name in _WRAPPERS if name in content), None)
        if not isinstance(inner, Mapping):
            break
        content = inner
    return content


def _to_arrays(content: Any, path: Path) -> dict[str, np.ndarray]:
    import torch

    if not isinstance(content, Mapping):
        raise UserError(
            f"The checkpoint {path} holds a {type(content).__name__}, not a state dict; "
            "save model.state_dict()."
        )
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise UserError(
                f"The entry {name!r} of {path} is not a tensor; save only model.state_dict()."
            )
        if tensor.is_complex():
            raise UserError(
                f"The entry {name!r} of {path} is complex; give a checkpoint with real tensors."
            )
    try:
        return {name: tensor.detach().float().numpy() for name, tensor in content.items()}
    # Sparse tensors, and those without data, cannot be converted.
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"The tensors of {path} cannot be read as numbers ({_first_sentence(error)})."
        ) from None


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0].split(". ")[0] if lines else type(error).__name__)[:200].rstrip(".")
