"""Imports of PyTorch checkpoints: equal outputs, and files that must be refused."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import safetensors
from PIL import Image
from safetensors.numpy import load_file, save_file

from hypernet_jax import Restorer, UserError, get_task, load_weights
from hypernet_jax.cli.main import main
from hypernet_jax.interchange.level_estimator import load_level_estimator
from hypernet_jax.interchange.torch_file import read_state_dict

from .commands import refuse
from .conftest import REPOSITORY

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra test-torch)")

import safetensors.torch  # noqa: E402

from . import torch_twins  # noqa: E402

LEVELS = {"denoise": (0, 5, 15, 27.5, 75), "sr": (1, 2, 2.5, 3, 4)}


def to_torch(image):
    return torch.from_numpy(image.transpose(0, 3, 1, 2).copy())


def crops(photograph, height, width, count=1):
    """Real crops, (N, H, W, 3) in [0, 1]."""
    starts = range(20, 20 + 40 * count, 40)
    return np.stack([photograph[s : s + height, s : s + width] for s in starts]) / np.float32(255)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A randomly initialised network of the published size, and its checkpoint."""
    network = torch_twins.seeded(torch_twins.Published)
    file = tmp_path_factory.mktemp("torch") / "published.pth"
    torch.save({"state_dict": network.state_dict(), "epoch": 3}, file)
    return network, file


@pytest.mark.parametrize("task", LEVELS)
def test_published_network(published, task, photograph, tmp_path, capsys):
    network, file = published
    state = network.state_dict()
    assert state["conv1.module.weight"].shape == (64, 3, 3, 3)
    assert state["res_blocks_meta.16.hy_conv2.fc.weight"].shape == (36928, 1)
    output = tmp_path / "weights.safetensors"
    main(["import-torch", str(file), "--task", task, "-o", str(output)])
    assert "16 blocks of 64 channels" in capsys.readouterr().out
    restorer = Restorer.from_pretrained(output)
    counts = restorer.model.parameter_counts()
    assert counts["generated_parameters"] == 1406787
    assert counts["trainable_parameters"] == 2588483
    for size in ((40, 56), (37, 51)) if task == "denoise" else ((37, 51),):
        images = crops(photograph, *size, count=2)
        outputs = []
        for level in LEVELS[task]:
            with torch.no_grad():
                expected = network(to_torch(images), torch.tensor([level / 255.0]))
            expected = expected.numpy().transpose(0, 2, 3, 1)
            got = restorer.apply(images, level=level)
            np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
            outputs.append(got)
        # The levels differ, or the comparison would prove nothing.
        assert np.abs(outputs[0] - outputs[-1]).max() > 2e-2


def test_a_network_of_one_part_is_for_no_task_of_several(published, tmp_path, capsys):
    output = tmp_path / "w.safetensors"
    command = ("import-torch", published[1], "--task", "photo", "-o", output)
    assert "the level of photo has 3" in refuse(capsys, *command)
    assert not output.exists()


def test_a_plain_network_serves_a_level_of_several_parts(tmp_path, capsys):
    network = torch_twins.seeded(torch_twins.Published, channels=8, blocks=2, plain=True)
    file, output = tmp_path / "plain.pth", tmp_path / "plain.safetensors"
    torch.save(network.state_dict(), file)
    main(["import-torch", str(file), "--task", "photo", "--level", "noise=15", "-o", str(output)])
    assert "photo, level noise=15,jpeg=100,blur=0: 2 blocks" in capsys.readouterr().out
    assert Restorer.from_pretrained(output).space.only.named["noise"] == 15


def test_what_no_network_here_has_is_named(tmp_path, capsys):
    torch.save({"body.0.weight": torch.zeros(8, 3, 3, 3)}, tmp_path / "other.pth")
    command = ("import-torch", tmp_path / "other.pth", "--task", "denoise", "--level", "25")
    assert "conv1" in refuse(capsys, *command, "-o", tmp_path / "w.safetensors")


def test_grey_narrow_unwrapped_and_as_safetensors(photograph, tmp_path):
    network = torch_twins.seeded(torch_twins.Published, colours=1, channels=8, blocks=2)
    state = {f"module.{name}": tensor.half() for name, tensor in network.state_dict().items()}
    network.half().float()
    torch.save(state, tmp_path / "grey.pth")
    save_file({k: v.numpy() for k, v in state.items()}, tmp_path / "grey.safetensors")
    image = crops(photograph, 21, 34)[..., :1]
    with torch.no_grad():
        expected = network(to_torch(image), torch.tensor([50 / 255.0])).numpy()
    for source in ("grey.pth", "grey.safetensors"):
        output = tmp_path / f"from-{source}.safetensors"
        main(["import-torch", str(tmp_path / source), "--task", "denoise", "-o", str(output)])
        got = Restorer.from_pretrained(output).apply(image, level=50)
        np.testing.assert_allclose(got.transpose(0, 3, 1, 2), expected, atol=1e-4, rtol=0)


def test_plain_network_serves_its_level(photograph, tmp_path, capsys):
    network = torch_twins.seeded(torch_twins.Published, channels=8, blocks=2, plain=True)
    file, output = tmp_path / "plain.pth", tmp_path / "plain.safetensors"
    torch.save(network.state_dict(), file)
    command = ["import-torch", str(file), "--task", "denoise", "-o", str(output)]
    assert "give the --level" in refuse(capsys, *command)
    assert "out of range" in refuse(capsys, *command, "--level", "250")
    main([*command, "--level", "25"])
    _, theta = load_weights(output)
    assert all(len(bank) == 1 for bank in theta["generated"].values())
    images = crops(photograph, 33, 40)
    with torch.no_grad():
        expected = network(to_torch(images)).numpy().transpose(0, 2, 3, 1)
    restorer = Restorer.from_pretrained(output)
    np.testing.assert_allclose(restorer.apply(images, level=25), expected, atol=1e-4, rtol=0)
    with pytest.raises(UserError, match=r"noise sigma of 25 .*the only one"):
        restorer.apply(images, level=30)
    # The level in the file need not be given; another level is refused.
    picture = str(tmp_path / "in.png")
    Image.fromarray(photograph[:33, :40]).save(picture)
    restore = ["restore", picture, "--weights", str(output), "-o", str(tmp_path / "restored.png")]
    main(restore)
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "restored.png")),
        restorer.restore(photograph[:33, :40], level=25),
    )
    assert "the only one" in refuse(capsys, *restore, "--level", "30", "--overwrite")
    main([*command, "--level", "25", "--residual-output", "--overwrite"])
    residual = Restorer.from_pretrained(output).apply(images, level=25)
    np.testing.assert_allclose(residual, images + expected, atol=1e-4, rtol=0)


def metadata_of(path):
    with safetensors.safe_open(path, framework="np") as file:
        return file.metadata()


def test_noise_level_network(photograph, tmp_path, capsys):
    network = torch_twins.seeded(torch_twins.NoiseLevel)
    with torch.no_grad():
        network.fc_seq[4].bias.fill_(31.0)
    file, output = tmp_path / "level.pth", tmp_path / "level.safetensors"
    torch.save(network.state_dict(), file)
    command = ["import-torch", str(file), "--task", "denoise", "-o", str(output)]
    assert "neither --level" in refuse(capsys, *command, "--level", "25")
    main(command)
    assert "level estimator" in capsys.readouterr().out
    estimator = load_level_estimator(output)
    assert estimator.crop == 128 and estimator.network.hidden == (32, 16)
    images = crops(photograph, 128, 128, count=3)
    with torch.no_grad():
        expected = network(to_torch(images)).numpy()[:, 0]
    got = np.asarray(estimator.network.apply({"params": estimator.params}, images))
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
    assert np.ptp(got) > 1e-3
    # For one crop the estimate equals the network's output. Other sizes and grey are accepted.
    assert estimator.estimate(images[0]) == pytest.approx(expected[0], abs=1e-4)
    assert estimator.estimate(photograph) == pytest.approx(31, abs=5)
    assert estimator.estimate(photograph[:20, :300, 0]) == pytest.approx(31, abs=5)
    picture, restored = tmp_path / "in.png", tmp_path / "restored.png"
    Image.fromarray(photograph[:90, :120]).save(picture)
    restore = ("restore", picture, "--task", "denoise", "-o", restored, "--estimator", output)
    main([*map(str, restore), "--level", "auto"])
    level = estimator.estimate(photograph[:90, :120])
    shown = get_task("denoise").space.parse(level)
    assert f"level {shown}, estimated by the given network" in capsys.readouterr().out
    np.testing.assert_array_equal(
        np.asarray(Image.open(restored)),
        Restorer.from_pretrained("denoise").restore(photograph[:90, :120], level=level),
    )
    assert "give both" in refuse(capsys, *restore, "--level", "25")
    assert "for denoise, not for dejpeg" in refuse(
        capsys, *restore, "--task", "dejpeg", "--level", "auto"
    )
    assert "contains no hypernet_jax weights" in refuse(capsys, "info", "--weights", output)
    with pytest.raises(UserError, match="contains no level estimator"):
        load_level_estimator(REPOSITORY / "hypernet_jax/pretrained/denoise.safetensors")
    for pixels in (images[0] * 255, np.full((64, 64, 3), np.nan), np.zeros(3), np.zeros((9, 9, 2))):
        with pytest.raises(UserError, match=r"scale or clip|not finite|must be"):
            estimator.estimate(np.float32(pixels))
    several = ("import-torch", file, "--task", "photo", "-o", tmp_path / "several.safetensors")
    assert "several" in refuse(capsys, *several) or not (tmp_path / "several.safetensors").exists()
    arrays, metadata = load_file(output), metadata_of(output)
    model = json.loads(metadata["model"])
    for changes in (
        {"crop": 0},
        {"crop": -32},
        {"channels": "x"},
        {"channels": 1.5},
        {"hidden": ["a", "b"]},
        {"colours": None},
        {"task": "photo"},
    ):
        changed = metadata | {"model": json.dumps(model | changes)}
        save_file(arrays, output, changed)
        with pytest.raises(UserError, match=r"does not describe|do not fit|part"):
            pytest.fail(f"{changes}: {load_level_estimator(output)}")
    save_file(arrays | {"head": np.zeros(3)}, output, metadata)
    with pytest.raises(UserError, match="does not describe"):
        load_level_estimator(output)
    state = network.state_dict()
    del state["conv_seq.4.conv2.bias"]
    torch.save(state, file)
    assert "no entry 'conv_seq.4.conv2.bias'" in refuse(capsys, *command, "--overwrite")


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return open, (self.victim, "w")


def test_nothing_in_a_file_is_run(published, tmp_path, capsys):
    victim = tmp_path / "created-by-the-pickle"
    pickles = {"bare.pth": Malicious(str(victim)), "inside.pth": {"x": Malicious(str(victim))}}
    for name, content in pickles.items():
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    torch.save({"state_dict": {}, "extra": Malicious(str(victim))}, tmp_path / "zipped.pth")
    for name in (*pickles, "zipped.pth"):
        message = refuse(
            capsys, "import-torch", tmp_path / name, "--task", "denoise", "-o", tmp_path / "out"
        )
        assert "were not loaded" in message
        assert not victim.exists() and not (tmp_path / "out").exists()
    # Plain unpickling of the same file does run its code.
    with pickle.loads((tmp_path / "bare.pth").read_bytes()):
        assert victim.exists()


def damaged_files(folder, checkpoint):
    """Damaged files: name -> expected message."""
    whole = checkpoint.read_bytes()
    (folder / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.pth").write_bytes(b"")
    (folder / "text.pth").write_text("not a checkpoint\n" * 50)
    (folder / "zip.pth").write_bytes(b"")
    with zipfile.ZipFile(folder / "zip.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    (folder / "noise.pth").write_bytes(np.random.default_rng(0).bytes(2000))
    (folder / "truncated.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    torch.save([1, 2, 3], folder / "list.pth")
    torch.save({"lr": 0.1}, folder / "number.pth")
    torch.save({}, folder / "nothing.pth")
    torch.jit.script(torch.nn.Conv2d(3, 3, 3)).save(folder / "script.pth")
    torch.save({"conv1.weight": torch.ones(4, 3, 3, 3) * 1j}, folder / "complex.pth")
    torch.save({"conv1.weight": torch.full((4, 3, 3, 3), torch.nan)}, folder / "nan.pth")
    torch.save({"a.module.b": torch.ones(1), "a.b": torch.zeros(1)}, folder / "twice.pth")
    for name, dtype in (("complex", torch.complex64), ("float8", torch.float8_e4m3fn)):
        tensors = {"conv1.weight": torch.ones(4, 3, 3, 3).to(dtype)}
        safetensors.torch.save_file(tensors, folder / f"{name}.safetensors")
    return {
        "missing.pth": "no checkpoint",
        "truncated.pth": "damaged",
        "empty.pth": "not a PyTorch checkpoint",
        "text.pth": "not a PyTorch checkpoint",
        "complex.pth": "is complex",
        "complex.safetensors": "of type C64",
        "float8.safetensors": "of type F8_E4M3",
        "twice.pth": "differ only by 'module.'",
        "zip.pth": "damaged",
        "noise.pth": "not a PyTorch checkpoint",
        "truncated.safetensors": "damaged",
        "list.pth": "holds a list, not a state dict",
        "number.pth": "'lr'",
        "nothing.pth": "no tensors",
        "script.pth": "TorchScript",
        "nan.pth": "not finite",
    }


def test_damaged_files_are_told_in_a_sentence(published, tmp_path, capsys):
    output = tmp_path / "out.safetensors"
    for name, message in damaged_files(tmp_path, published[1]).items():
        refusal = refuse(capsys, "import-torch", tmp_path / name, "--task", "denoise", "-o", output)
        assert "weights_only" not in refusal
        assert message in refusal, (name, refusal)
        assert not output.exists()


@pytest.mark.parametrize("byte", range(40, 4000, 371))
def test_a_flipped_byte_never_ends_in_a_traceback(byte, tmp_path):
    """Damage at the start of the archive: refused in a sentence, or read as other numbers."""
    network = torch_twins.seeded(torch_twins.Published, channels=4, blocks=1)
    file = tmp_path / "flipped.pth"
    torch.save(network.state_dict(), file)
    content = bytearray(file.read_bytes())
    content[byte] ^= 0x55
    file.write_bytes(content)
    try:
        read_state_dict(file)
    except UserError as error:
        assert str(error).endswith(".") and "\n" not in str(error)


def test_another_architecture_is_told_by_its_first_unfit_entry(tmp_path, capsys):
    network = torch_twins.seeded(torch_twins.Published, channels=8, blocks=2)

    def refusal(change):
        state = dict(network.state_dict())
        change(state)
        torch.save(state, tmp_path / "changed.pth")
        return refuse(
            capsys,
            *("import-torch", tmp_path / "changed.pth", "--task", "denoise"),
            *("-o", tmp_path / "out.safetensors"),
        )

    def put(name, *shape):
        return lambda state: state.update({name: torch.ones(shape)})

    slope = "res_blocks_meta.2.hy_conv1.fc.weight"
    assert f"no entry '{slope}'" in refusal(lambda state: state.pop(slope))
    assert "(16, 8, 3, 3), not (8, 8, 3, 3)" in refusal(put("conv2.module.weight", 16, 8, 3, 3))
    assert "images with 4 channels" in refusal(put("conv1.module.weight", 8, 4, 3, 3))
    assert "unexpected entry 'attention.weight'" in refusal(put("attention.weight", 2))
    assert "no entry 'conv1.weight'" in refusal(lambda state: state.pop("conv1.module.weight"))
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    assert "leave out --level" in refuse(
        capsys,
        *("import-torch", tmp_path / "whole.pth", "--task", "denoise", "--level", "3"),
        *("-o", tmp_path / "out.safetensors"),
    )
