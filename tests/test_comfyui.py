"""The ComfyUI node, called according to the interface of nodes."""

import importlib.util
import sys

import numpy as np
import pytest

from hypernet_jax import Restorer, UserError
from hypernet_jax.tasks import DEFAULT_TASK

from .conftest import REPOSITORY

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def nodes():
    """Loads the node like ComfyUI loads a folder of `custom_nodes`."""
    folder = REPOSITORY / "integrations/comfyui"
    spec = importlib.util.spec_from_file_location(
        "custom_nodes_hypernet", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.startswith(spec.name)]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def node(nodes):
    (cls,) = nodes.NODE_CLASS_MAPPINGS.values()
    assert nodes.NODE_DISPLAY_NAME_MAPPINGS.keys() == nodes.NODE_CLASS_MAPPINGS.keys()
    inputs = cls.INPUT_TYPES()
    assert inputs["required"]["image"] == ("IMAGE",) and inputs["optional"]["mask"] == ("MASK",)
    assert "denoise" in inputs["required"]["task"][0]
    assert inputs["required"]["task"][1] == {"default": DEFAULT_TASK}
    return lambda **given: getattr(cls(), cls.FUNCTION)(**given)


def test_a_batch_with_a_mask(node, photograph):
    images = np.stack([photograph[:80, :100], photograph[80:160, :100]]) / np.float32(255)
    restored, levels = node(image=torch.from_numpy(images), task="denoise", level="20")
    assert restored.dtype == torch.float32 and restored.shape == images.shape
    assert levels == "20\n20"
    live = Restorer.from_pretrained("denoise")
    np.testing.assert_allclose(restored, live.restore(images, level=20), atol=1e-5)
    mask = torch.zeros(1, 40, 50)
    mask[:, :, 30:] = 1
    partly, _ = node(image=torch.from_numpy(images), task="denoise", level="20", mask=mask)
    np.testing.assert_array_equal(partly[:, :, :55], images[:, :, :55])
    # ComfyUI's mask for a picture without transparency; it counts as no mask.
    unmasked, _ = node(
        image=torch.from_numpy(images), task="denoise", level="20", mask=torch.zeros(1, 64, 64)
    )
    np.testing.assert_array_equal(unmasked, restored)
    assert (partly[:, :, 70:] != torch.from_numpy(images)[:, :, 70:]).any()


def test_estimates_enlarges_and_refuses(node, photograph):
    noise = np.random.default_rng(0).normal(0, 15, (1, 100, 120, 3))
    noisy = np.clip(photograph[:100, :120] + noise, 0, 255).astype(np.float32) / 255
    _, level = node(image=torch.from_numpy(noisy), task="denoise", level="auto")
    assert abs(float(level) - 15) < 3
    larger, _ = node(image=torch.from_numpy(noisy), task="sr", level="1.5")
    assert larger.shape == (1, 150, 180, 3)
    with pytest.raises(UserError, match="from 0 to 100"):
        node(image=torch.from_numpy(noisy), task="denoise", level="500")
    with pytest.raises(UserError, match="the same for the whole image"):
        node(image=torch.from_numpy(noisy), task="sr", level="2", mask=torch.ones(1, 10, 12))


def test_a_black_mask_for_an_image_of_64x64_counts(node, photograph):
    image = torch.from_numpy(photograph[None, :64, :64] / np.float32(255))
    black = torch.zeros(1, 64, 64)
    masked, _ = node(image=image, task="denoise", level="20", mask=black)
    np.testing.assert_array_equal(masked, image)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((1, 80, 40), "does not fit the proportions of the image's 100x80"),
        ((1, 1, 80, 100), "must be of shape"),
        ((0, 80, 100), "must be of shape"),
        ((100,), "must be of shape"),
    ],
)
def test_masks_that_do_not_fit_are_refused(shape, words, node, photograph):
    image = torch.from_numpy(photograph[None, :80, :100] / np.float32(255))
    with pytest.raises(UserError, match=words):
        node(image=image, task="denoise", level="20", mask=torch.ones(shape))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_floats_of_16_bits(dtype, node, photograph):
    image = torch.from_numpy(photograph[None, :80, :100] / np.float32(255)).to(dtype)
    mask = torch.ones(80, 100, dtype=dtype)
    for more in ({}, {"mask": mask}):
        restored, _ = node(image=image, task="denoise", level="20", **more)
        expected, _ = node(image=image.float(), task="denoise", level="20")
        assert restored.dtype == torch.float32
        np.testing.assert_allclose(restored, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.full((1, 64, 64, 3), torch.nan), "not finite"),
        (torch.zeros(64, 64, 3), "must be of shape"),
        (torch.zeros(1, 64, 64, 2), "must be of shape"),
    ],
)
def test_what_is_no_image_is_refused(image, words, node):
    for level in ("auto", "noise=20"):
        with pytest.raises(UserError, match=words):
            node(image=image, task="photo", level=level)


def test_an_empty_batch_gives_an_empty_batch(node):
    restored, levels = node(image=torch.zeros(0, 80, 100, 3), task="denoise", level="auto")
    assert restored.shape == (0, 80, 100, 3) and levels == ""
