"""The symmetries of the square against NumPy's rotations, for NumPy and JAX arrays."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernet_jax.symmetries import VIEWS, seen_from, turned_back

IMAGE = np.arange(3 * 5 * 2).reshape(3, 5, 2)


def test_the_views_are_all_rotations_with_and_without_mirroring():
    rotated = {
        np.rot90(IMAGE[:, ::-1] if mirrored else IMAGE, turns).tobytes()
        for turns, mirrored in itertools.product(range(4), (False, True))
    }
    assert {seen_from(view, IMAGE).tobytes() for view in VIEWS} == rotated
    assert len(rotated) == len(VIEWS) == 8


@given(
    view=st.sampled_from(VIEWS),
    shape=st.lists(st.integers(1, 4), min_size=3, max_size=5),
)
def test_each_view_turns_back(view, shape):
    images = np.arange(np.prod(shape)).reshape(shape)
    seen = seen_from(view, images)
    height, width = (shape[-2], shape[-3]) if view.transposed else (shape[-3], shape[-2])
    assert seen.shape == (*shape[:-3], height, width, shape[-1])
    np.testing.assert_array_equal(turned_back(view, seen), images)


@pytest.mark.parametrize("view", VIEWS, ids=str)
@pytest.mark.parametrize("compiled", [False, True])
def test_jax_arrays_are_turned_as_numpy_arrays(view, compiled):
    jit = jax.jit if compiled else lambda function: function
    seen = jit(lambda images: seen_from(view, images))(jnp.asarray(IMAGE))
    chex.assert_trees_all_equal(np.asarray(seen), seen_from(view, IMAGE))
    chex.assert_trees_all_equal(jit(lambda images: turned_back(view, images))(seen), IMAGE)
