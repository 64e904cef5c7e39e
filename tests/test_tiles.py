"""Tiles equal the whole image, with bounded memory and few compiled programs."""

import functools
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypernet_jax import Restorer, UserError, load_weights, make_model
from hypernet_jax.degradations import bicubic_resize
from hypernet_jax.inference.memory import bytes_per_pixel
from hypernet_jax.inference.sources import Source
from hypernet_jax.inference.tiles import (
    Tile,
    axis_plans,
    batches,
    cheapest_plan,
    even_sides,
    tiles,
)
from hypernet_jax.networks import apply_network, init_network, make_network

from .models import tiny_config, tiny_restorer, tiny_theta, unet_config

# Megabytes that force tiles of 128 pixels on the shipped networks.
SMALL = 5.2
SIZES = [(1, 1), (1, 77), (40, 41), (180, 237)]


@functools.cache
def shipped(task):
    return load_weights(task)


def whole(model, params, image):
    """The reference: the whole image at once."""
    return np.asarray(jax.jit(model.apply)(params, jnp.asarray(image, jnp.float32)[None]))[0]


@pytest.mark.parametrize(
    ("task", "backend"), [("denoise", "jax"), ("denoise", "onnxruntime"), ("sr", "jax")]
)
def test_tiles_equal_the_whole_image(task, backend, photograph):
    model, theta = shipped(task)
    # ONNX Runtime needs twice as much for the same tiles.
    memory = SMALL if backend == "jax" else 2 * SMALL
    restorer = Restorer(model, theta, memory=memory, backend=backend)
    # A level that is exact in float32, like stored levels.
    level = 1.75 if task == "sr" else 23.0
    params = model.generate(theta, level)
    # An enlargement is larger, and no other where its size is.
    for height, width in [(1, 77), (104, 137)] if task == "sr" else SIZES:
        image = np.swapaxes(photograph, 0, 1)[:height, :width]
        assert image.shape == (height, width, 3)
        source = Source(image[None], level if task == "sr" else None)
        given = source.read(0, *(slice(0, length) for length in source.size))
        expected = whole(model, params, given)
        np.testing.assert_allclose(
            restorer.apply(given[None], level=level)[0], expected, atol=1e-5, rtol=0
        )
        got = restorer.restore(image, level=level).astype(int)
        rounded = np.round(255 * np.clip(expected, 0, 1))
        # A value halfway between two integers may be rounded either way.
        assert got.shape == expected.shape and np.abs(got - rounded).max() <= 1
        assert (got != rounded).sum() <= max(1, 1e-4 * got.size)
    assert max(height * width for height, width in SIZES) > restorer._largest**2 > 0


def test_batches_are_computed_beside_each_other(photograph):
    """A large image uses all cores, although XLA uses only one per convolution."""
    restorer = tiny_restorer()
    restorer._at_once = 3
    restorer._workers = ThreadPoolExecutor(3)
    apply, meet = restorer.backend.apply, threading.Barrier(3, timeout=60)
    image = np.tile(photograph, (3, 2, 1))[:1100, :1100]
    expected = tiny_restorer().restore(image, level=20)
    calls = itertools.count()

    def together(*args, **kwargs):
        # The first three wait for each other, so they must run at the same time.
        if next(calls) < 3:
            meet.wait()
        return apply(*args, **kwargs)

    restorer.backend.apply = together
    np.testing.assert_array_equal(restorer.restore(image, level=20), expected)
    assert next(calls) > 3


def test_a_flat_gradient_has_no_seam():
    model, theta = shipped("denoise")
    ramp = np.linspace(0.2, 0.6, 280, dtype=np.float32)
    image = np.broadcast_to((ramp[:, None] + ramp[None]) / 2, (280, 280))[..., None].repeat(3, -1)
    restorer = Restorer(model, theta, memory=SMALL, backend="jax")
    tiled = restorer.apply(image[None], level=40)[0]
    expected = whole(model, model.generate(theta, 40.0), image)
    np.testing.assert_allclose(tiled, expected, atol=1e-6, rtol=0)
    inside = tiled[60:-60, 60:-60]
    # Neighbouring pixels differ as in the ramp everywhere, including at tile borders.
    for axis in (0, 1):
        assert np.abs(np.diff(inside, axis=axis)).max() < 5e-3


@settings(max_examples=200)
@given(
    st.integers(1, 5000),
    st.data(),
    st.sampled_from([10, 38, 72]),
    st.sampled_from([192, 512, 1024]),
)
def test_spans_cover_the_window_once_and_see_enough(length, data, halo, largest):
    low = data.draw(st.integers(0, length - 1))
    high = data.draw(st.integers(low + 1, length))
    padded = length + length % 2
    for spans in axis_plans(length, (low, high), halo=halo, multiple=2, largest=largest):
        assert [spans[0].keep[0], spans[-1].keep[1]] == [low, high]
        assert all(a.keep[1] == b.keep[0] for a, b in itertools.pairwise(spans))
        for span in spans:
            assert span.side == spans[0].side <= largest and span.start % 2 == 0
            assert span.valid == min(span.side, padded - span.start) and span.valid % 2 == 0
            start, stop = span.keep
            assert span.start == 0 or start - span.start >= halo
            assert span.start + span.valid == padded or span.start + span.valid - stop >= halo


@settings(max_examples=100)
@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([38, 64]), st.data())
def test_plans_of_any_size_stay_within_their_area(height, width, halo, data):
    pixels = data.draw(st.integers((2 * halo + 32) ** 2, 4_000_000))
    plans = [
        axis_plans(
            length, (0, length), halo=halo, multiple=8, largest=10**9,
            sides=even_sides((0, length), halo=halo, multiple=8),
        )
        for length in (height, width)
    ]  # fmt: skip
    rows, columns = cheapest_plan(*plans, at_once=1, pixels=pixels, padded=False)
    for length, spans in ((height, rows), (width, columns)):
        assert [spans[0].keep[0], spans[-1].keep[1]] == [0, length]
        assert all(a.keep[1] == b.keep[0] for a, b in itertools.pairwise(spans))
    most = max(s.valid for s in rows) * max(s.valid for s in columns)
    assert most <= pixels
    if (height + 7) * (width + 7) <= pixels:
        assert len(rows) == len(columns) == 1


def test_the_cheapest_plan_keeps_all_cores_at_work():
    rows, columns = (
        axis_plans(length, (0, length), halo=38, multiple=2, largest=1024) for length in (320, 480)
    )
    sides = {
        at_once: [
            (len(axis), axis[0].side) for axis in cheapest_plan(rows, columns, at_once=at_once)
        ]
        for at_once in (1, 2)
    }
    assert sides == {1: [(1, 384), (1, 512)], 2: [(2, 256), (1, 512)]}


def test_batches_hold_every_tile_once():
    plans = axis_plans(400, (0, 400), halo=10, multiple=2, largest=64)
    spans, _ = cheapest_plan(plans, plans, at_once=1)
    todo = tiles(5, spans, spans)
    done = [tile for batch in batches(todo, 40 * 64**2) for tile in batch]
    assert done == todo and isinstance(done[0], Tile)
    assert {len(batch) for batch in batches(todo, 40 * 64**2)} <= {1, 4, 16, 64}
    assert all(len(batch) == 1 for batch in batches(todo, 1))


@pytest.mark.parametrize("light_tail", [True, False])
@pytest.mark.parametrize("blocks", [1, 3])
def test_the_receptive_field_is_exact(blocks, light_tail):
    network = make_network("residual", channels=3, blocks=blocks, light_tail=light_tail)
    params = init_network(jax.random.key(0), network)
    # All positive and without ReLUs, a change cannot cancel or vanish.
    params = jax.tree.map(lambda x: jnp.abs(x) * 3 + 0.05, params)
    radius = network.spec.reach
    side = 4 * radius
    apply = jax.jit(functools.partial(apply_network, network))
    image = np.full((1, side, side, 3), 0.5, np.float64).astype(np.float32)
    base = np.asarray(apply(params, image))
    reach = 0
    for position in (2 * radius, 2 * radius + 1):
        changed = image.copy()
        changed[0, position, position] += 0.5
        rows = np.flatnonzero((np.asarray(apply(params, changed)) != base).any(axis=(0, 2, 3)))
        reach = max(reach, position - rows.min(), rows.max() - position)
    assert reach == radius


def test_a_valid_part_is_as_if_it_were_alone(photograph):
    model = make_model(tiny_config())
    params = model.generate(tiny_theta(tiny_config()), 30.0)
    images = np.float32(photograph[:64, :96][None].repeat(3, 0)) / 255
    valid = np.array([[64, 96], [20, 96], [38, 54]])
    apply = jax.jit(functools.partial(apply_network, model.network, params))
    got = apply(images, valid=jnp.asarray(valid))
    for image, (height, width), result in zip(images, valid, got, strict=True):
        alone = apply(image[None, :height, :width])[0]
        np.testing.assert_allclose(result[:height, :width], alone, atol=1e-6)


def test_few_programs_serve_many_sizes(photograph):
    restorer = tiny_restorer()

    def apply(*args, **kwargs):
        return apply_network(restorer.model.network, *args, **kwargs)

    restorer.backend.apply = jax.jit(chex.assert_max_traces(apply, n=4))
    rng = np.random.default_rng(0)
    for height, width in rng.integers(260, 400, (20, 2)):
        restorer.restore(photograph[:height, :width], level=20)


def test_memory_is_bounded_by_what_is_allowed():
    for task in ("denoise", "sr"):
        model, theta = shipped(task)
        params = jax.eval_shape(model.generate, theta, 2.0)
        image = jax.ShapeDtypeStruct((1, 128, 128, 3), jnp.float32)
        compiled = jax.jit(model.apply).lower(params, image).compile().memory_analysis()
        if compiled is not None:
            assert compiled.temp_size_in_bytes <= 128**2 * bytes_per_pixel(model, theta)
    # With a level for each pixel. What the kernels take does not grow with the tile.
    for task in ("denoise", "photo"):
        model, theta = shipped(task)
        restorer = Restorer(model, theta, backend="jax")
        needed = []
        for side in (128, 192):
            levels = jax.ShapeDtypeStruct((1, side, side, len(model.task.space)), jnp.float32)
            image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
            valid = jax.ShapeDtypeStruct((1, 2), jnp.int32)
            apply = jax.jit(model.restore_pixels).lower(theta, levels, image, valid=valid)
            compiled = apply.compile().memory_analysis()
            needed.append(0 if compiled is None else compiled.temp_size_in_bytes)
        per_pixel = (needed[1] - needed[0]) / (192**2 - 128**2)
        assert per_pixel <= bytes_per_pixel(model, theta) * restorer._memory_on_map
    model, theta = shipped("sr")
    sides = [Restorer(model, theta, memory=memory)._largest for memory in (5, 20, 100, 1000)]
    assert sides == sorted(sides) and sides[0] < sides[-1]
    with pytest.raises(UserError, match=r"does not fit into 0\.5 MB of memory; allow \d+ MB"):
        Restorer(model, theta, memory=0.5)
    far = {"channels": (2,) * 5, "blocks": (4,) * 5}
    model = make_model(unet_config(**far))
    with pytest.raises(UserError, match=r"need more than \d+ pixels, and the largest have 1024"):
        Restorer(model, model.init(jax.random.key(0)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("task", ["denoise", "sr"])
def test_types_agree_and_batches_are_restored_one_by_one(task, dtype, photograph):
    restorer, level = tiny_restorer(task), 2.3 if task == "sr" else 30
    unit = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    images = np.stack([photograph[:30, :41], photograph[50:80, 60:101]])
    typed = (images / 255 * unit).astype(dtype)
    got = restorer.restore(typed, level=level)
    assert got.dtype == dtype and got.ndim == 4
    for one, result in zip(typed, got, strict=True):
        np.testing.assert_allclose(restorer.restore(one, level=level), result, atol=unit * 1e-5)
    reference = restorer.restore(images / 255, level=level)
    # 8-bit enlargements are rounded before the network sees them.
    assert np.abs(got / unit - reference).max() < (0.02 if dtype is np.uint8 else 1e-4)


def test_16_bits_do_not_pass_through_8():
    ramp = np.linspace(20000, 20900, 64).astype(np.uint16)
    image = np.broadcast_to(ramp, (64, 64))
    for task, level in (("denoise", 0), ("sr", 2)):
        restored = Restorer(*shipped(task)).restore(image, level=level)
        assert len(np.unique(restored)) > 40
        assert np.abs(restored[20:-20, 20:-20].astype(int) - 20450).max() < 900


def test_a_window_is_a_part_of_the_whole(photograph):
    for task, level in (("denoise", 30), ("sr", 2.5)):
        restorer = tiny_restorer(task)
        full = restorer.restore(photograph[:90, :120], level=level).astype(int)
        for part in (np.s_[0:10, 0:20], np.s_[33:71, 50:119], np.s_[80:90, 110:]):
            window = restorer.restore(photograph[:90, :120], level=level, window=part)
            assert np.abs(window - full[part]).max() <= 1
    with pytest.raises(UserError, match="outside the image"):
        restorer.restore(photograph[:9, :12], level=2, window=np.s_[40:50, 0:3])


def test_blend_mixes_with_the_input(photograph):
    image = photograph[:40, :50]
    restorer = tiny_restorer()
    full = restorer.restore(image, level=60).astype(float)
    np.testing.assert_array_equal(restorer.restore(image, level=60, blend=0.0), image)
    half = restorer.restore(image, level=60, blend=0.5)
    assert np.abs(half - (full + image) / 2).max() <= 1.0
    enlarged = tiny_restorer("sr").restore(image, level=2, blend=0.0)
    expected = np.clip(np.round(bicubic_resize(image, 2)), 0, 255)
    np.testing.assert_array_equal(enlarged, expected)
    with pytest.raises(UserError, match="from 0 to 1"):
        restorer.restore(image, level=60, blend=1.5)


def test_progress_counts_every_pixel_once(photograph):
    for task, colours, level in (("denoise", 3, 30), ("denoise", 1, 30), ("sr", 3, 2)):
        counts = []
        restorer = Restorer(
            tiny_restorer(task, colours).model, tiny_theta(tiny_config(task, colours)), memory=0.5
        )
        image = photograph[:200, :300]
        result = restorer.restore(image, level=level, progress=lambda *c: counts.append(c))  # noqa: B023
        total = result.shape[0] * result.shape[1]
        assert len(counts) > 3 and counts == sorted(counts) and counts[-1] == (total, total)


def test_threads_may_share_a_restorer(photograph):
    restorer = tiny_restorer()
    work = [(level, 30 + 7 * size) for level in range(5, 45, 5) for size in range(4)]
    expected = [restorer.restore(photograph[:n, :n], level=level) for level, n in work]
    shared = tiny_restorer()
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda w: shared.restore(photograph[: w[1], : w[1]], level=w[0]), work))
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_window_of_an_enlargement_is_exact(photograph):
    image = photograph[:31, :47]
    full = bicubic_resize(image, 2.7, size=(84, 127))
    part = np.s_[20:50, 3:127]
    got = bicubic_resize(image, 2.7, size=(84, 127), window=part)
    np.testing.assert_array_equal(got, full[part])
