"""The Python interface: restores arrays with trained weights."""

import collections
import functools
import math
import operator
import reprlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from hypernet_jax.errors import UserError, missing_extra, real_number
from hypernet_jax.hypernet import HyperNetwork, Theta
from hypernet_jax.inference.arguments import (
    Window,
    are_grey,
    as_image,
    as_numpy,
    batch_of,
    blend_of_size,
    check_model,
    checked_margin,
    checked_window,
)
from hypernet_jax.inference.backends import make_backend
from hypernet_jax.inference.ensemble import ApplyTiles, mean_of_views
from hypernet_jax.inference.level_maps import MapNetworks
from hypernet_jax.inference.memory import bytes_per_pixel
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.inference.sources import Source, unit_of
from hypernet_jax.inference.tiles import (
    SMALLEST_ALONE,
    Span,
    Tile,
    axis_plans,
    batches,
    cheapest_plan,
    even_sides,
    largest_side,
    smallest_side,
    tiles,
)
from hypernet_jax.levels import Level, LevelSpace, axes_of
from hypernet_jax.model import Model, make_model, model_config
from hypernet_jax.networks import spec_of
from hypernet_jax.programs import compiled
from hypernet_jax.runtime import ordinary_arithmetic, start_jax
from hypernet_jax.weights import load_weights

__all__ = ["DEFAULT_MEMORY", "Progress", "Restorer"]

# Generated networks to cache; a compact one takes 0.6 MB, the published size 6 MB.
_CACHED_LEVELS = 32
# Working memory of the network, in megabytes.
DEFAULT_MEMORY = 640.0
# At most so many levels of a level map that fill whole tiles get networks of their own.
_CONSTANT_LEVELS = 4
# Most pixels in a batch of small tiles on CPUs, where larger batches gain nothing.
_CPU_BATCH_PIXELS = SMALLEST_ALONE**2

# Pixels; a bound above the side of any image.
_LONGEST_SIDE = 2**31

Progress = Callable[[int, int], None]
_Kept = tuple[int, slice, slice]


class Restorer:
    """A trained hypernetwork that restores images of any size at any level.

    The network for a level is generated on first use and cached. Images are
    restored in tiles that overlap by the network's receptive field: the result
    equals that of the whole image, with bounded memory and a few compiled
    programs for all levels and sizes. Threads may share a restorer.

    >>> restorer = Restorer.from_pretrained("denoise")
    >>> restored = restorer.restore(np.zeros((20, 31, 3), np.uint8), level=25)
    >>> restored.shape, restored.dtype
    ((20, 31, 3), dtype('uint8'))
    """

    @ordinary_arithmetic()
    def __init__(
        self,
        model: Model,
        theta: Theta,
        *,
        memory: float = DEFAULT_MEMORY,
        backend: str = "auto",
        self_ensemble: bool = False,
    ):
        """Creates a restorer from a model and its trained parameters.

        Args:
          model: network, hypernetwork and task.
          theta: the trained parameters.
          memory: working memory of the network in megabytes, approximately, not counting the
            images themselves.
          backend: "jax"; "onnxruntime" (an extra), which is faster on CPUs; "onnxruntime:cuda" or
            another of `backends.PROVIDERS`; or "auto", the faster of the first two that is
            installed and supports the network.
          self_ensemble: restore all eight mirrored and rotated views of an image and average
            them (self-ensemble): slightly better, for eight times the work.

        Raises:
          UserError: if even the smallest tile does not fit into `memory`, or there is no such
            backend.
        """
        start_jax()
        check_model(model, theta)
        if not isinstance(self_ensemble, (bool, np.bool_)):
            raise UserError(
                f"The self_ensemble {self_ensemble!r} is not valid; give True or False."
            )
        memory = real_number(memory, "amount of memory")
        # Pickled, to build the same restorer in another process.
        self._arguments = (model, theta, memory, backend, self_ensemble)
        self.model = model
        self.self_ensemble = self_ensemble
        generate = compiled(HyperNetwork.generate, model.hypernet)
        self._generate = functools.lru_cache(_CACHED_LEVELS)(
            lambda level: generate(theta, level.array)
        )
        per_pixel = bytes_per_pixel(model, theta)
        self._spec = spec_of(model.network)
        if self._spec.reach is None or not self._spec.exact_tiles:
            raise UserError(
                f"A {type(model.network).__name__} cannot restore images in exact tiles; take a "
                "network whose spec has a reach and exact_tiles=True."
            )
        self._halo, self._multiple = self._spec.reach, self._spec.multiple_of
        least = smallest_side(2 * self._halo + self._multiple) ** 2 * per_pixel
        if 1e6 * memory < least:
            raise UserError(
                f"This network does not fit into {memory:g} MB of memory; "
                f"allow {math.ceil(least / 1e6)} MB or more."
            )
        self.backend = make_backend(backend, model, theta, self._generate)
        self._at_once = max(1, min(self.backend.most_at_once, int(1e6 * memory / least)))
        self._workers = ThreadPoolExecutor(self._at_once, thread_name_prefix="restorer")
        share = 1e6 * memory / self._at_once
        self._largest = largest_side(share, per_pixel)
        self._maps = MapNetworks(model, theta, self.backend)
        # With a level map each convolution holds the results of several kernels.
        self._memory_on_map = self.backend.memory_on_map(self._maps.features)
        self._largest_on_map = max(
            largest_side(share, per_pixel * self._memory_on_map),
            smallest_side(2 * self._halo + self._multiple),
        )
        self._most_pixels = share / per_pixel / self.backend.memory_factor
        on_cpu = jax.default_backend() == "cpu"
        self._batch_pixels = min(self._most_pixels, _CPU_BATCH_PIXELS if on_cpu else math.inf)

    @property
    def theta(self) -> Theta:
        """The hypernetwork's parameters."""
        return self._arguments[1]

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        memory: float = DEFAULT_MEMORY,
        backend: str = "auto",
        self_ensemble: bool = False,
    ) -> "Restorer":
        """Loads shipped weights by name, or a .safetensors file."""
        return cls(*load_weights(name), memory=memory, backend=backend, self_ensemble=self_ensemble)

    @classmethod
    def from_workdir(
        cls,
        workdir: str | Path,
        *,
        memory: float = DEFAULT_MEMORY,
        backend: str = "auto",
        self_ensemble: bool = False,
    ) -> "Restorer":
        """Loads the averaged weights of the newest checkpoint of a training run.

        Raises:
          UserError: if there is none, or the extra `train` is not installed.
        """
        # Orbax takes seconds to import, and only training runs need it.
        try:
            from hypernet_jax.checkpoints import load_ema
        except ModuleNotFoundError as error:
            raise (missing_extra(error) or error) from None

        config, theta = load_ema(workdir)
        model = make_model(model_config(config))
        return cls(model, theta, memory=memory, backend=backend, self_ensemble=self_ensemble)

    def __reduce__(self):
        # Rebuilt from its arguments: threads and compiled programs cannot be pickled.
        model, theta, *options = self._arguments
        return _rebuilt, (model, jax.tree.map(np.asarray, theta), *options)

    @property
    def space(self) -> LevelSpace:
        """The axes of `level`, their units and ranges."""
        return self.model.task.space

    @ordinary_arithmetic()
    def params(self, level: Any) -> dict:
        """The parameters of the network for one level, generated on first use."""
        # Containers of their own: those of the cache are used again.
        return jax.tree.map(lambda leaf: leaf, self._generate(self.space.parse(level)))

    def restored_size(self, size: tuple[int, int], level: Any) -> tuple[int, int]:
        """(height, width) of the result for an image of this (height, width).

        Raises:
          UserError: if the level is out of range, or the size is not valid.
        """
        level = self.space.parse(level)
        try:
            height, width = (operator.index(length) for length in size)
        except (TypeError, ValueError):
            raise UserError(
                f"The size {reprlib.repr(size)} is not valid; give two whole numbers."
            ) from None
        if not (0 < height < _LONGEST_SIDE and 0 < width < _LONGEST_SIDE):
            raise UserError(f"An image cannot have {height} rows of {width} pixels.")
        size = height, width
        return self._source(np.broadcast_to(np.uint8(0), (1, *size, 1)), level).size

    @ordinary_arithmetic()
    def apply(self, images: np.ndarray, *, level: Any) -> Float32[np.ndarray, "n h w c"]:
        """Applies the network for one level, without clipping or rounding.

        Args:
          images: (N, H, W, C) float in [0, 1]; C = 1 or 3. A colour network gets a
            grey image as three equal channels and the mean of its output is returned;
            a grey network restores a colour image channel by channel.
          level: as `LevelSpace.parse` takes it.

        Returns:
          float32 of the same shape.

        Raises:
          UserError: if the level is out of range, or the array is unsuitable.
        """
        start_jax()
        level = self.space.parse(level)
        images = as_image(images)
        if images.dtype.kind != "f":
            raise UserError(
                f"Images must be floats in [0, 1], not {images.dtype}; divide by the largest value."
            )
        images = images.astype(np.float32)
        if images.ndim != 4 or images.shape[-1] not in (1, 3) or not images.size:
            raise UserError(
                f"Images must be (N, H, W, C) with 1 or 3 channels, not of shape {images.shape}."
            )
        if not np.isfinite(images).all():
            raise UserError("The images have samples that are not finite numbers; replace them.")
        output = np.empty(images.shape, np.float32)
        whole = (slice(0, images.shape[1]), slice(0, images.shape[2]))
        for kept, channels, restored, _ in self._restored_tiles(
            Source(images), level, whole, self._halo
        ):
            output[kept][..., channels] = restored
        return output

    @ordinary_arithmetic()
    def restore(
        self,
        image: np.ndarray,
        *,
        level: Any,
        blend: float | np.ndarray = 1.0,
        window: Window | None = None,
        margin: int | None = None,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Restores one image, or several of equal size.

        Args:
          image: (H, W), (H, W, C) or (N, H, W, C), C = 1 or 3; uint8, uint16, or
            float in [0, 1]. Three equal channels stay equal. Like the arrays below, of NumPy, JAX,
            or PyTorch on the CPU.
          level: as `LevelSpace.parse` takes it: noise sigma in 8-bit grey levels, JPEG quality,
            or scale factor. "auto", or "auto" for some parts, estimates the level of a single
            image if the task has an estimator. An array gives each pixel a level: (H, W), or
            (H, W, A) for levels with A parts.
          blend: the weight of the restored image, from 0 to 1; the rest is the input (for
            super-resolution, its bicubic enlargement). A number, or an array (H, W) with one for
            each pixel of the result.
          window: rows and columns of the result to compute, two slices without a step; they
            equal the same part of the whole result.
          margin: context around each tile, in pixels; None: the network's receptive field. A
            smaller margin gives a faster preview that may differ near the edges of tiles.
          progress: called with the number of pixels done and the total.

        Returns:
          The restored image, same layout and type (float32 for bfloat16); for super-resolution
          round(H * level) by round(W * level).

        Raises:
          UserError: (a ValueError) if the level is out of range, or an argument is unsuitable.
        """
        start_jax()
        image = as_image(image)
        if progress is not None and not callable(progress):
            raise UserError(
                f"The progress {progress!r} is not callable; give a function of two arguments."
            )
        images = batch_of(image)
        if axes_of(level) > 1:
            level = self._checked_map(as_numpy(level, "level map"), images.shape[1:3])
        else:
            level = self._completed(level, images)
        # A grey image stored as RGB is restored as grey, or it would gain a colour cast.
        grey = images.shape[-1] == 3 and are_grey(images)
        if np.any(grey) and not np.all(grey):
            options = {"level": level, "blend": blend, "window": window, "margin": margin}
            return self._each_kind(images, grey, options, progress)
        grey = bool(np.all(grey))
        source = self._source(images[..., :1] if grey else images, level)
        shares = blend_of_size(blend, source.size)
        top, left = checked_window(window, source.size)
        unit = unit_of(image.dtype)
        shape = (len(source.images), top.stop - top.start, left.stop - left.start)
        output = np.empty((*shape, source.images.shape[-1]), image.dtype)
        channels, done = output.shape[-1], 0
        halo = self._halo if margin is None else checked_margin(margin, self._halo)
        for (n, rows, columns), part, restored, given in self._restored_tiles(
            source, level, (top, left), halo
        ):
            restored = np.clip(restored, 0.0, 1.0)
            if shares is not None:
                taken = shares[rows, columns, None]
                restored = taken * restored + (np.float32(1.0) - taken) * given
            restored = np.float32(unit) * restored
            if unit > 1.0:
                restored = np.round(restored)
            output[n, _shifted(rows, top), _shifted(columns, left), part] = restored
            done += restored.size
            if progress is not None:
                progress(done // channels, output.size // channels)
        if grey:
            output = np.repeat(output, 3, axis=-1)
        if image.ndim == 4:
            return output
        return output[0, ..., 0] if image.ndim == 2 else output[0]

    def _each_kind(
        self,
        images: np.ndarray,
        grey: np.ndarray,
        options: dict[str, Any],
        progress: Progress | None,
    ) -> np.ndarray:
        """Restores the grey images of a batch, then those with colour."""
        groups, done = [np.flatnonzero(grey), np.flatnonzero(~grey)], 0
        results = []
        for group in groups:

            def report(pixels: int, of: int, before: int = done, share: int = len(group)) -> None:
                size = of // share  # of one image
                if progress is not None:
                    progress(before * size + pixels, len(images) * size)

            results.append(self.restore(images[group], progress=report, **options))
            done += len(group)
        output = np.empty((len(images), *results[0].shape[1:]), images.dtype)
        for group, result in zip(groups, results, strict=True):
            output[group] = result
        return output

    def _completed(self, level: Any, images: np.ndarray) -> Level:
        """The level, with the parts that are "auto" estimated."""
        request = self.space.request(level)
        if not request.estimated:
            return request.level()
        if len(images) != 1:
            raise UserError("The level can be estimated for one image only; give one at a time.")
        found, _ = resolve_level(self.model.task, request, images[0], None)
        return self.space.parse(found)

    def _checked_map(self, levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if self.model.task.enlarges:
            raise UserError(
                "The scale factor is the same for the whole image; give a number as its level, "
                "and no masks."
            )
        return self.space.parse_map(levels, size)

    def _network(self, level: Level | np.ndarray) -> ApplyTiles:
        """The function that restores tiles at one level, or at those of a map."""
        if isinstance(level, Level):
            network = self.backend.prepare(level)
        else:
            network = self._maps.network(level)
        return mean_of_views(network) if self.self_ensemble else network

    def _networks(
        self, level: Level | np.ndarray
    ) -> Callable[[list[Tile]], tuple[ApplyTiles, tuple[np.ndarray, ...]]]:
        """A function from a batch of tiles to the network for it and its further arguments."""
        if isinstance(level, Level):
            network = self._network(level)
            return lambda batch: (network, ())
        constant: set[Level] = set()
        mapped = functools.cache(functools.partial(self._network, level))

        def of_batch(batch: list[Tile]) -> tuple[ApplyTiles, tuple[np.ndarray, ...]]:
            levels = _levels_of(level, batch)
            first = levels[0, 0, 0]
            # If all pixels have the same level, that level's network needs less work.
            if (levels == first).all():
                same = self.space.parse(tuple(first.tolist()) if len(first) > 1 else first.item())
                if same in constant or len(constant) < _CONSTANT_LEVELS:
                    constant.add(same)
                    return self._network(same), ()
            return mapped(), (levels,)

        return of_batch

    def _plan(
        self, size: tuple[int, int], window: Window, halo: int, *, mapped: bool = False
    ) -> tuple[list[Span], list[Span]]:
        """The tiles along both axes."""
        plans = []
        any_size = self.backend.any_size
        for length, part in zip(size, window, strict=True):
            place, sides = (part.start, part.stop), None
            largest = self._largest_on_map if mapped else self._largest
            if any_size:
                # Bounded by area instead: one side may be long if the other is short.
                sides = even_sides(place, halo=halo, multiple=self._multiple)
                largest = max(sides)
            plans.append(
                axis_plans(
                    length, place,
                    halo=halo, multiple=self._multiple, largest=largest, sides=sides,
                )
            )  # fmt: skip
        return cheapest_plan(
            *plans,
            at_once=self._at_once,
            pixels=self._most_pixels / (self._memory_on_map if mapped else 1)
            if any_size
            else math.inf,
            padded=not any_size,
        )

    def _source(self, images: np.ndarray, level: Level | np.ndarray) -> Source:
        factor = self.model.task.factor(level) if isinstance(level, Level) else None
        return Source(images, factor)

    def _restored_tiles(
        self, source: Source, level: Level | np.ndarray, window: Window, halo: int
    ) -> Iterator[tuple[_Kept, slice, np.ndarray, np.ndarray]]:
        """Yields (image and position, channels, restored pixels, the network's input there)."""
        height, width = source.size
        mapped = isinstance(level, np.ndarray)
        rows, columns = self._plan((height, width), window, halo, mapped=mapped)
        networks = self._networks(level)
        channels = source.images.shape[-1]
        # A grey network takes the channels of a colour image one by one.
        step = channels if channels <= self.model.colours else 1
        pixels = self._batch_pixels / (self._memory_on_map if mapped else 1)
        waiting: collections.deque[tuple[list[Tile], slice, np.ndarray, Future]] = (
            collections.deque()
        )
        for first in range(0, channels, step):
            part = slice(first, first + step)
            planes = Source(source.images[..., part], source.factor)
            for batch in batches(tiles(len(planes.images), rows, columns), pixels):
                inputs, valid = _stacked(planes, batch)
                given = inputs
                if inputs.shape[-1] < self.model.colours:
                    given = np.repeat(inputs, self.model.colours, axis=-1)
                # Does not wait: the next tiles are cut while these are computed.
                network, more = networks(batch)
                restored = self._workers.submit(
                    _in_ordinary_arithmetic, network, given, valid, *more
                )
                waiting.append((batch, part, inputs, restored))
                if len(waiting) > self._at_once:
                    yield from _kept(*waiting.popleft())
        while waiting:
            yield from _kept(*waiting.popleft())


# Set per thread, so the workers set it too.
@ordinary_arithmetic()
def _in_ordinary_arithmetic(network: ApplyTiles, *arrays: np.ndarray) -> np.ndarray:
    return network(*arrays)


def _stacked(source: Source, batch: list[Tile]) -> tuple[np.ndarray, np.ndarray]:
    inputs = [
        source.read_padded(
            tile.image,
            (tile.rows.start, tile.columns.start),
            (tile.rows.side, tile.columns.side),
        )
        for tile in batch
    ]
    valid = [(tile.rows.valid, tile.columns.valid) for tile in batch]
    return np.stack(inputs), np.asarray(valid, np.int32)


def _levels_of(levels: np.ndarray, batch: list[Tile]) -> np.ndarray:
    """The levels of the pixels of tiles, (N, side, side, A); padded symmetrically, like images."""

    def places(span: Span, length: int) -> np.ndarray:
        folded = np.arange(span.start, span.start + span.side) % (2 * length)
        return np.minimum(folded, 2 * length - 1 - folded)

    height, width = levels.shape[:2]
    return np.stack(
        [
            levels[places(tile.rows, height)[:, None], places(tile.columns, width)[None]]
            for tile in batch
        ]
    )


def _kept(
    batch: list[Tile], channels: slice, inputs: np.ndarray, restored: Future
) -> Iterator[tuple[_Kept, slice, np.ndarray, np.ndarray]]:
    results = restored.result()
    for tile, given, result in zip(batch, inputs, results, strict=True):
        rows, columns = slice(*tile.rows.keep), slice(*tile.columns.keep)
        here = (
            slice(rows.start - tile.rows.start, rows.stop - tile.rows.start),
            slice(columns.start - tile.columns.start, columns.stop - tile.columns.start),
        )
        result = result[here]
        if result.shape[-1] > given.shape[-1]:
            result = result.mean(axis=-1, keepdims=True)
        yield (tile.image, rows, columns), channels, result, given[here]


def _shifted(part: slice, window: slice) -> slice:
    return slice(part.start - window.start, part.stop - window.start)


def _rebuilt(model: Model, theta: Theta, memory: float, backend: str, ensemble: bool):
    return Restorer(model, theta, memory=memory, backend=backend, self_ensemble=ensemble)
