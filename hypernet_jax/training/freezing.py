"""Trains only part of theta: parameters that match a pattern stay unchanged, bit for bit.

A bank holds its base (the coefficient of the constant feature) and its slopes
(all others) in one array, so the mask extends along that axis too.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from hypernet_jax.errors import UserError
from hypernet_jax.hypernet import Theta, path_matches

__all__ = ["freeze", "trainable_mask"]


def trainable_mask(theta: Theta, frozen: str) -> Theta:
    """A tree of arrays like theta: 1 for parameters to train, 0 for frozen ones.

    Args:
      theta: arrays or their shapes.
      frozen: regular expression on paths: "base/block_0/conv_1/kernel" for the first feature
        of a bank, "slopes/..." for the others, "shared/..." and "features/...".

    Raises:
      UserError: if the pattern matches nothing, or everything.
    """
    matches = path_matches(frozen)

    def bank_mask(path, bank):
        parts = [not matches(f"base/{path}")] + [not matches(f"slopes/{path}")] * (len(bank) - 1)
        return np.array(parts, np.float32).reshape((-1,) + (1,) * (bank.ndim - 1))

    def leaf_masks(group):
        flat = traverse_util.flatten_dict(theta[group], sep="/")
        masks = {path: np.float32(not matches(f"{group}/{path}")) for path in flat}
        # "shared" is already flat; its paths contain slashes.
        return masks if group == "shared" else traverse_util.unflatten_dict(masks, sep="/")

    mask = {
        "generated": {path: bank_mask(path, bank) for path, bank in theta["generated"].items()},
        "shared": leaf_masks("shared"),
        "features": leaf_masks("features"),
    }
    entries = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(mask)])
    if entries.all() or not entries.any():
        what = "no parameter" if entries.all() else "every parameter"
        raise UserError(
            f"config.frozen, {frozen!r}, matches {what}; give a regular expression on paths such "
            "as base/block_0/conv_1/kernel, which begin with base, slopes, shared or features."
        )
    return mask


def freeze(
    optimizer: optax.GradientTransformation, theta: Theta, frozen: str
) -> optax.GradientTransformation:
    """Wraps an optimizer so that gradients and updates of frozen parameters are zero.

    Gradients are zeroed before clipping, so that the global norm covers only trained parameters.
    """
    mask = trainable_mask(theta, frozen)

    def zero(updates, params):
        del params
        return jax.tree.map(lambda m, u: jnp.where(m > 0, u, 0.0), mask, updates)

    return optax.chain(optax.stateless(zero), optimizer, optax.stateless(zero))
