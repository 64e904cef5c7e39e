"""A path class adds a kind of storage; functions with `storage_path` work there as on disk."""

import pathlib

import chex
import pytest

from hypernet_jax import UserError, load_weights, save_weights
from hypernet_jax.files import local_path
from hypernet_jax.storage import register_storage, storage_path

from .models import tiny_config, tiny_theta


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A storage that keeps shelf://NAME in a folder."""
    folder = tmp_path_factory.mktemp("shelf")

    class Shelf(pathlib.PurePosixPath):
        @property
        def _held(self):
            return folder / self.name

        def __fspath__(self):
            return f"shelf://{self.name}"

        __str__ = __fspath__

        def exists(self):
            return self._held.exists()

        is_file = exists

        def read_bytes(self):
            return self._held.read_bytes()

        def write_bytes(self, content):
            if self.name.startswith("full"):
                raise OSError("no room on the shelf")
            self._held.write_bytes(content)

    register_storage("shelf", Shelf)
    return folder


def test_weights_at_an_address(shelf):
    theta = tiny_theta(tiny_config())
    save_weights("shelf://tiny.safetensors", theta, tiny_config())
    assert [path.name for path in shelf.iterdir()] == ["tiny.safetensors"]
    model, found = load_weights("shelf://tiny.safetensors")
    chex.assert_trees_all_equal(found, theta)
    assert model.task.name == "denoise"
    with pytest.raises(UserError, match="already exists"):
        save_weights("shelf://tiny.safetensors", theta, tiny_config())
    save_weights("shelf://tiny.safetensors", theta, tiny_config(), overwrite=True)
    with pytest.raises(UserError, match="There are no weights"):
        load_weights("shelf://other.safetensors")
    with pytest.raises(UserError, match="no room on the shelf"):
        save_weights("shelf://full.safetensors", theta, tiny_config())


def test_where_an_address_is_not_served_it_is_no_folder(shelf):
    with pytest.raises(UserError, match=r"unknown://a/b is of no known kind.* gs://.* shelf://"):
        storage_path("unknown://a/b")
    with pytest.raises(UserError, match="leave out file://"):
        storage_path("file:///a/b")
    with pytest.raises(UserError, match="is an address"):
        local_path("shelf://tiny.safetensors")
    assert storage_path("a/b") == pathlib.Path("a/b")
