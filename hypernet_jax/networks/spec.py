"""`NetworkSpec`, the properties that a network declares, and a check of exact tiles."""

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
    """Requirements and properties of a restoration network.

    Attributes:
      in_channels: channels of the images that it takes and returns, 3 or 1.
      multiple_of: image height and width must be multiples of this.
      reach: the largest distance, in pixels, between an output pixel and an input pixel that it
        depends on (the radius of the receptive field); None if that is the whole image.
      exact_tiles: tiles that overlap by `reach` and begin at multiples of `multiple_of` give
        the same result as the whole image. This requires that all layers that mix neighbours
        are zero-padded `nn.Conv`, which can be masked beyond the image's edge.
      growable: attributes that may be larger than in the weights that training starts from.
      branch_exits: regular expression on the paths of layers that make an added block the
        identity when they are zero. The default matches none.
      activated: regular expression on the paths of convolutions whose outputs go into an
        activation; training keeps these outputs on both sides of zero.
    """

    in_channels: int = 3
    multiple_of: int = 1
    reach: int | None = None
    exact_tiles: bool = False
    growable: tuple[str, ...] = ()
    branch_exits: str = "(?!)"
    activated: str = "(?!)"

    def __post_init__(self):
        if self.exact_tiles and self.reach is None:
            raise UserError("A network with exact tiles needs a finite reach; set it in its spec.")


def spec_of(network: nn.Module) -> NetworkSpec:
    """The network's own `spec`, or the minimal default for other Flax modules."""
    found = getattr(network, "spec", None)
    return found if isinstance(found, NetworkSpec) else NetworkSpec()


# Operations that compute each pixel from that pixel alone.
_PIXELWISE = frozenset(
    (
        "abs", "add", "add_any", "and", "broadcast_in_dim", "clamp", "convert_element_type", "copy",
        "cos", "div", "eq", "erf", "exp", "expm1", "ge", "gt", "integer_pow", "le",
        "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne", "neg", "not", "or", "pow",
        "rsqrt", "select_n", "sign", "sin", "sqrt", "square", "squeeze", "stop_gradient", "sub",
        "tanh",
    )
)  # fmt: skip


# Rows and columns of the image that networks are checked with, per `multiple_of`: lengths that
# channels hardly have.
_SIDES = (1009, 1013)


def check_exact_tiles(network: nn.Module) -> None:
    """Raises `UserError` if a network declares exact tiles but has a layer that breaks them.

    In its jaxpr, every operation that mixes neighbours must be an `nn.Conv` without input
    dilation, from and to a size that divides the image's; all others must be pixelwise, or
    `pixel_shuffle`, and none may depend on the row or column. The declared reach is not checked.
    """
    spec = spec_of(network)
    if not spec.exact_tiles:
        return
    # Sizes that nothing else has, so that a count of rows or columns shows.
    height, width = (side * spec.multiple_of for side in _SIDES)
    sizes = {side * times for side in _SIDES for times in range(1, spec.multiple_of + 1)}
    scales = {
        (height // factor, width // factor)
        for factor in range(1, spec.multiple_of + 1)
        if spec.multiple_of % factor == 0
    }
    places = {size + more for size in sizes for more in (-1, 0, 1)}  # `linspace` counts one less
    image = jax.ShapeDtypeStruct((1, height, width, spec.in_channels), jnp.float32)
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
            for atom in (equation.invars[0], equation.outvars[0]):
                if atom.aval.shape[1:3] not in scales:
                    raise _refused(
                        name, "a convolution at a size that is no whole fraction of the image's"
                    )
        elif kind == "iota" and places & set(equation.outvars[0].aval.shape):
            raise _refused(name, "a count of rows or columns")
        elif not _is_pixelwise(equation, sizes):
            raise _refused(name, kind)
    if found > convolutions:
        raise _refused(name, "a convolution that is not an nn.Conv")


def _refused(name: str, what: str) -> UserError:
    return UserError(
        f"The network {name} declares exact tiles, but has {what}, which cannot be masked beyond "
        "the edge of an image; set exact_tiles=False in its spec."
    )


def _equations(jaxpr: Any) -> Iterator[Any]:
    """All equations except those inside `pixel_shuffle`."""
    for equation in jaxpr.eqns:
        params = equation.params
        if params.get("name") == "pixel_shuffle":
            continue
        inner = params.get("jaxpr") or params.get("call_jaxpr") or params.get("call")
        if inner is None:
            yield equation
        else:
            yield from _equations(getattr(inner, "jaxpr", inner))


def _is_pixelwise(equation: Any, sizes: set[int]) -> bool:
    """Whether the equation keeps rows and columns separate.

    These are axes 1 and 2 of arrays with at least four, and all axes with such a length.
    """
    kind, params = equation.primitive.name, equation.params
    operands = [atom.aval.shape for atom in equation.invars if hasattr(atom.aval, "shape")]
    results = [atom.aval.shape for atom in equation.outvars if hasattr(atom.aval, "shape")]
    apart = [_axes_apart(shape, sizes) for shape in operands]
    if not any(apart) or kind in _PIXELWISE:
        return True
    if kind == "dot_general":
        contracted = params["dimension_numbers"][0]
        return not any(axes & set(used) for axes, used in zip(apart, contracted, strict=True))
    if kind == "concatenate":
        return not any(params["dimension"] in axes for axes in apart)
    if kind in ("reduce_sum", "reduce_max", "reduce_min"):
        return not apart[0] & set(params["axes"])
    if kind in ("reshape", "slice", "split"):
        return all(_kept(operands[0], shape, sizes) for shape in results)
    return False


def _axes_apart(shape: tuple[int, ...], sizes: set[int]) -> set[int]:
    of_images = {0, 1, 2} if len(shape) > 3 else set()
    return of_images | {axis for axis, length in enumerate(shape) if length in sizes}


def _kept(old: tuple[int, ...], new: tuple[int, ...], sizes: set[int]) -> bool:
    if len(old) > 3 and len(new) > 3 and old[:3] != new[:3]:
        return False
    was, now = ([length for length in shape if length in sizes] for shape in (old, new))
    return was == now
