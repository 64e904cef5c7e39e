"""What a network says of itself, and whether it is true."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hypernet_jax.errors import UserError

__all__ = ["NetworkSpec", "check_exact_tiles", "spec_of"]


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
    """What a restoration network needs, and what may be done with it.

    Attributes:
      in_channels: of the images that it takes and returns, 3 or 1.
      multiple_of: what their height and width must be multiples of.
      reach: how far, in pixels, anything that one output pixel depends on lies from it; None
        where that is the whole image.
      exact_tiles: tiles that overlap by `reach`, and begin at multiples of `multiple_of`, give
        what the whole image gives. Only for networks all of whose layers that see neighbours are
        zero-padded `nn.Conv`, which can be masked beyond the image's edge.
      growable: attributes that may be larger than those of the weights that training starts from.
      branch_exits: regular expression on the paths of layers that, where they are zero, make an
        added block the identity.
    """

    in_channels: int = 3
    multiple_of: int = 1
    reach: int | None = None
    exact_tiles: bool = False
    growable: tuple[str, ...] = ()
    branch_exits: str = "$^"

    def __post_init__(self):
        if self.exact_tiles and self.reach is None:
            raise UserError("A network whose tiles are exact must say how far it sees.")


def spec_of(network: nn.Module) -> NetworkSpec:
    """The network's own `spec`; of other Flax modules the least that every one of them offers."""
    found = getattr(network, "spec", None)
    return found if isinstance(found, NetworkSpec) else NetworkSpec()


# Operations that give each pixel from that pixel alone.
_PIXELWISE = frozenset(
    (
        "abs", "add", "add_any", "and", "broadcast_in_dim", "clamp", "convert_element_type", "copy",
        "cos", "div", "eq", "erf", "exp", "expm1", "ge", "gt", "integer_pow", "le",
        "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow",
        "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "squeeze", "stop_gradient", "sub",
        "tanh",
    )
)  # fmt: skip


def check_exact_tiles(network: nn.Module) -> None:
    """Raises `UserError` where a network claims exact tiles and has a layer that breaks them.

    Its jaxpr is walked: what sees neighbours must be an `nn.Conv` without dilation of its input,
    and everything else must work on each pixel alone, or be `pixel_shuffle`.
    """
    spec = spec_of(network)
    if not spec.exact_tiles:
        return
    side = 8 * spec.multiple_of
    image = jax.ShapeDtypeStruct((1, side, side, spec.in_channels), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), image)
    convolutions = 0

    def counting(call, args, kwargs, context):
        nonlocal convolutions
        if isinstance(context.module, nn.Conv) and context.method_name == "__call__":
            convolutions += 1
        return call(*args, **kwargs)

    with nn.intercept_methods(counting):
        jaxpr = jax.make_jaxpr(network.apply)(params, image).jaxpr
    name = type(network).__name__
    found = 0
    for equation in _equations(jaxpr):
        kind = equation.primitive.name
        if kind == "conv_general_dilated":
            found += 1
            if set(equation.params["lhs_dilation"]) != {1}:
                raise _refused(name, "a transposed convolution")
        elif not _is_pixelwise(equation):
            raise _refused(name, kind)
    if found > convolutions:
        raise _refused(name, "a convolution that is no nn.Conv")


def _refused(name: str, what: str) -> UserError:
    return UserError(
        f"The network {name} says that its tiles are exact, but has {what}, which cannot be "
        "masked beyond the edge of an image; let its spec say exact_tiles=False."
    )


def _equations(jaxpr: Any) -> Iterator[Any]:
    """All equations but those inside `pixel_shuffle`."""
    for equation in jaxpr.eqns:
        params = equation.params
        if params.get("name") == "pixel_shuffle":
            continue
        inner = params.get("jaxpr") or params.get("call_jaxpr") or params.get("call")
        if inner is None:
            yield equation
        else:
            yield from _equations(getattr(inner, "jaxpr", inner))


def _is_pixelwise(equation: Any) -> bool:
    """Whether rows and columns, the second and third axis of four or more, are left alone."""
    kind, params = equation.primitive.name, equation.params
    shapes = [atom.aval.shape for atom in equation.invars if getattr(atom.aval, "ndim", 0) > 3]
    if not shapes:
        return True
    if kind == "dot_general":
        contracted = params["dimension_numbers"][0]
        return all(
            axis > 2
            for atom, axes in zip(equation.invars, contracted, strict=True)
            for axis in axes
            if atom.aval.ndim > 3
        )
    if kind in _PIXELWISE:
        return True
    if kind == "concatenate":
        return params["dimension"] > 2
    if kind in ("reduce_sum", "reduce_max", "reduce_min"):
        return min(params["axes"]) > 2
    if kind in ("reshape", "slice", "split"):
        return all(out.aval.shape[:3] == shapes[0][:3] for out in equation.outvars)
    return False
