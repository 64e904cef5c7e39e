"""The registry of networks, and functions to initialise and apply one."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hypernet_jax.errors import UserError, check_name
from hypernet_jax.networks.level_plane import LevelPlaneNetwork
from hypernet_jax.networks.residual import ResidualNetwork
from hypernet_jax.networks.spec import check_exact_tiles, spec_of
from hypernet_jax.networks.unet import UNet

__all__ = [
    "apply_network",
    "init_network",
    "make_network",
    "names",
    "network_options",
    "register_network",
]

_NETWORKS: dict[str, type[nn.Module]] = {
    "residual": ResidualNetwork,
    "level_plane": LevelPlaneNetwork,
    "unet": UNet,
}


def register_network(name: str, network: type[nn.Module]) -> None:
    """Makes a network available as `config.network.name`.

    Args:
      name: a new name.
      network: a Flax module that takes only images (N, H, W, C). Its property `spec` is a
        `NetworkSpec`, checked here with the default attributes.

    Raises:
      UserError: if the name is taken or not valid, the network is no class of modules whose
        attributes all have defaults, or it claims exact tiles and has layers that cannot be masked.
    """
    check_name("A network", name)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        raise UserError(
            f"The network {name!r} is {network!r}; give a class of Flax modules, not an instance."
        )
    required = [
        field.name
        for field in dataclasses.fields(network)
        if field.init
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if required:
        raise UserError(
            f"The network {name!r} has attributes without a default ({', '.join(required)}); give "
            "them one, which configs can change."
        )
    if name in _NETWORKS:
        raise UserError(f"There is a network {name!r} already; choose another name.")
    check_exact_tiles(network())
    _NETWORKS[name] = network


def names() -> set[str]:
    """Names of all registered networks."""
    return set(_NETWORKS)


def make_network(name: str, **options: Any) -> nn.Module:
    """Returns the network called `name` with the given attributes."""
    if name not in _NETWORKS:
        raise UserError(f"Unknown network {name!r}; choose one of {', '.join(_NETWORKS)}.")
    # Lists come from JSON, which has no tuples; modules must be hashable.
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    for field in dataclasses.fields(_NETWORKS[name]):
        given = options.get(field.name, field.default)
        known = isinstance(field.default, (int, float, str, tuple))
        if known and isinstance(given, tuple) != isinstance(field.default, tuple):
            one = "several values" if isinstance(field.default, tuple) else "one value"
            raise UserError(
                f"The network {name!r} has {field.name} {given}; give {one}, such as "
                f"{field.default}."
            )
    try:
        return _NETWORKS[name](**options)
    except TypeError as error:
        raise UserError(f"The network {name!r} does not take these options: {error}.") from None


def network_options(network: nn.Module) -> dict[str, Any]:
    """What `make_network` makes the network of: its name and options, `dtype` excepted."""
    name = next((name for name, kind in _NETWORKS.items() if kind is type(network)), "")
    fields = {field.name for field in dataclasses.fields(network)} - {"parent", "name", "dtype"}
    return {"name": name, **{field: getattr(network, field) for field in sorted(fields)}}


def init_network(key: jax.Array, network: nn.Module) -> dict:
    """Initial parameters of a plain network: the template for a hypernetwork."""
    spec = spec_of(network)
    side = 8 * spec.multiple_of
    image = jax.ShapeDtypeStruct((1, side, side, spec.in_channels), jnp.float32)
    # Lazily, because only the parameters are needed, not the restored image.
    return network.lazy_init(key, image)["params"]


def _zero_outside(valid: Int[Array, "n 2"], height: int, width: int) -> Callable:
    """An interceptor that zeroes the input of convolutions outside the valid part.

    In every layer a convolution pads its input with zeros. In an image inside a larger
    array, biases and activations change the zeros around the image, so they are zeroed
    again before each convolution.
    """

    def interceptor(call, args, kwargs, context):
        if not isinstance(context.module, nn.Conv) or context.method_name != "__call__":
            return call(*args, **kwargs)
        x, *others = args
        rows = jnp.arange(x.shape[1]) * (height // x.shape[1]) < valid[:, :1]
        columns = jnp.arange(x.shape[2]) * (width // x.shape[2]) < valid[:, 1:]
        inside = rows[:, :, None, None] & columns[:, None, :, None]
        return call(jnp.where(inside, x, 0), *others, **kwargs)

    return interceptor


def apply_network(
    network: nn.Module,
    params: dict,
    image: Float[Array, "n h w c"],
    *,
    valid: Int[Array, "n 2"] | None = None,
) -> Float[Array, "n h w c"]:
    """Restores images of any height and width.

    Args:
      network: a module; its `spec` gives the required multiple of height and width.
      params: its parameters.
      image: (N, H, W, C) float, in [0, 1].
      valid: (N, 2) integers, multiples of the same: the numbers of valid rows and
        columns of each image, from the top left. There the result is that of the
        valid part alone, so one compiled shape serves many sizes; elsewhere it is
        undefined. For networks of zero-padded `nn.Conv` layers.

    Other sizes are padded symmetrically at the bottom and right and cropped
    afterwards. The result has the shape of `image`.
    """
    height, width = image.shape[1:3]
    multiple = spec_of(network).multiple_of
    bottom, right = -height % multiple, -width % multiple
    padded = image
    if bottom or right:
        padded = jnp.pad(image, ((0, 0), (0, bottom), (0, right), (0, 0)), mode="symmetric")
    masked: contextlib.AbstractContextManager = contextlib.nullcontext()
    if valid is not None:
        masked = nn.intercept_methods(_zero_outside(valid, *padded.shape[1:3]))
    with masked:
        restored = cast(jax.Array, network.apply({"params": params}, padded))
    return restored[:, :height, :width]
