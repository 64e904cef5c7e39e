"""Applies a network directly from its kernel bank, with a level for each image or pixel.

A generated kernel is linear in the features phi of the level, and a convolution is
linear in its kernel, so conv(x, sum_d phi_d bank_d) = sum_d phi_d conv(x, bank_d): one
wide convolution with all kernels of the bank, followed by a sum of its channels weighted
per image or per output pixel. The arithmetic is that of a plain network times the number
of features.
"""

import functools
import operator
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from flax.errors import ScopeCollectionNotFound, ScopeParamNotFoundError
from jaxtyping import Array, Float, Int

from hypernet_jax.errors import UserError
from hypernet_jax.networks.registry import apply_network
from hypernet_jax.networks.spec import spec_of

__all__ = ["apply_bank"]


def _wide_convolution(
    conv: nn.Conv, x: Float[Array, "n h w i"], bank: Float[Array, "d kh kw ig o"]
) -> Float[Array, "n h2 w2 d o"]:
    """conv(x, bank[d]) for all d, without a bias.

    Args:
      conv: the module, which defines the geometry.
      x: (N, H, W, channels in).
      bank: (D, height, width, channels in of a group, channels out).

    Returns:
      (N, H, W, D, channels out).
    """
    count, *_, channels = bank.shape
    # Groups are blocks of output channels, so each group has all of its kernels side by side.
    groups = (conv.feature_group_count, channels // conv.feature_group_count)
    split = bank.reshape((*bank.shape[:-1], *groups))
    wide = jnp.moveaxis(split, 0, -2).reshape((*bank.shape[1:-1], count * channels))
    module = conv.clone(features=count * channels, use_bias=False, parent=None, name=None)
    y = jnp.asarray(module.apply({"params": {"kernel": wide}}, x))
    each = y.reshape((*y.shape[:-1], groups[0], count, groups[1]))
    return jnp.moveaxis(each, -2, -3).reshape((*y.shape[:-1], count, channels))


def _at_resolution_of(
    phi: Float[Array, "n h w d"], y: Float[Array, "n h2 w2 ..."]
) -> Float[Array, "n h3 w3 d"]:
    """phi at the resolution of y: per-image phi is unchanged, per-pixel phi is averaged.

    Args:
      phi: (N, 1, 1, D), or (N, H, W, D).
      y: (N, h, w, ...), h and w dividing H and W.
    """
    height, width = (
        given // held for given, held in zip(phi.shape[1:3], y.shape[1:3], strict=True)
    )
    if max(height, width) <= 1:
        return phi
    cells = phi.reshape((phi.shape[0], y.shape[1], height, y.shape[2], width, phi.shape[-1]))
    return jnp.mean(cells, axis=(2, 4))


def apply_bank(
    network: nn.Module,
    banks: Mapping[str, jax.Array],
    shared: Mapping[str, jax.Array],
    phi: Float[Array, "n d"] | Float[Array, "n h w d"],
    images: Float[Array, "n h w c"],
    *,
    valid: Int[Array, "n 2"] | None = None,
) -> Float[Array, "n h w c"]:
    """Restores each image, or each pixel, with the parameters of its own level.

    Args:
      network: its generated parameters must all be kernels and biases of `nn.Conv`.
      banks: generated parameters by "/"-joined path, with a leading axis D, the features.
      shared: the other parameters by path.
      phi: features of the level of each image, (N, D), or of each pixel, (N, H, W, D). Layers at
        a coarser resolution take the mean over the pixels that a sample covers.
      images: (N, H, W, C) in [0, 1].
      valid: as in `apply_network`.

    Returns:
      (N, H, W, C).

    Raises:
      UserError: if a generated parameter does not belong to a convolution.
    """
    used: set[str] = set()
    phi = _completed(phi, spec_of(network).multiple_of)

    def intercept(next_call, args, kwargs, context):
        module = context.module
        if not isinstance(module, nn.Conv) or context.method_name != "__call__":
            return next_call(*args, **kwargs)
        kernel, bias = ("/".join((*module.path, name)) for name in ("kernel", "bias"))
        if kernel not in banks and bias not in banks:
            return next_call(*args, **kwargs)
        used.update(path for path in (kernel, bias) if path in banks)
        (x,) = args
        y: jax.Array
        if kernel in banks:
            each = _wide_convolution(module, x, banks[kernel])
            weights = _at_resolution_of(phi, each).astype(each.dtype)
            # Not one sum over an axis: XLA would fuse it with the convolution and lose half of its
            # speed on CPUs.
            parts = (each[..., d, :] * weights[..., d, None] for d in range(each.shape[3]))
            y = functools.reduce(operator.add, parts)
        else:
            plain = module.clone(use_bias=False, parent=None, name=None)
            y = jnp.asarray(plain.apply({"params": {"kernel": shared[kernel]}}, x))
        if bias in banks:
            exact = jax.lax.Precision.HIGHEST
            own = jnp.dot(_at_resolution_of(phi, y), banks[bias], precision=exact)
            y = y + own.astype(y.dtype)
        elif bias in shared:
            y = y + shared[bias].astype(y.dtype)
        return y

    params = traverse_util.unflatten_dict(dict(shared), sep="/")
    restored, culprit = None, ""
    try:
        with nn.intercept_methods(intercept):
            restored = apply_network(network, params, images, valid=valid)
    except (ScopeParamNotFoundError, ScopeCollectionNotFound) as error:
        # The bank holds it for another kind of layer.
        words = str(error).split('"')
        wanted = {"/".join((*scope.strip("/").split("/"), name)).strip("/")
                  for scope in words for name in words}  # fmt: skip
        culprit = next((path for path in banks if path in wanted), "")
    unused = [path for path in banks if path not in used]
    if restored is None or unused:
        raise UserError(
            f"The generated parameter {culprit or unused[0]} is not a kernel or bias of a "
            "convolution, so images and pixels cannot have different levels; give one level for "
            "all of them, or train with config.levels.per=step and config.level_form=unrolled."
        )
    return restored


def _completed(
    phi: Float[Array, "n d"] | Float[Array, "n h w d"], multiple: int
) -> Float[Array, "n h2 w2 d"]:
    """phi as (N, 1, 1, D), or as (N, H, W, D) padded to multiples, as images are."""
    if phi.ndim == 2:
        return phi[:, None, None, :]
    bottom, right = (-length % multiple for length in phi.shape[1:3])
    return jnp.pad(phi, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="symmetric")
