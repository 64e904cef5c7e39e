"""--luma and --chroma: separate strengths for luminance and colour."""

import numpy as np
import pytest
from PIL import Image

from hypernet_jax import UserError, save_weights
from hypernet_jax.cli.main import main
from hypernet_jax.images.reading import Photograph
from hypernet_jax.photographs.luma_chroma import luma_with_chroma
from hypernet_jax.photographs.restoring import Options, restore_file, restore_photograph

from .models import RESTORER, tiny_config, tiny_restorer, tiny_theta


def test_the_command_turns_luminance_and_colour_apart(photograph, tmp_path, capsys):
    image = photograph[:60, :80]
    source, output = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(image).save(source)
    save_weights(tmp_path / "w.safetensors", tiny_theta(tiny_config()), tiny_config())
    command = ["restore", source, "--weights", tmp_path / "w.safetensors", "--level", 20,
               "--backend", "jax", "--overwrite", "-o", output]  # fmt: skip

    def restored(*options):
        main([*map(str, command), *options])
        return np.asarray(Image.open(output)).astype(int)

    space = RESTORER.space
    levels = [space.scaled(20, share) for share in (0.5, 2.0)]
    apart = [RESTORER.restore(image, level=level) for level in levels]
    expected = luma_with_chroma(*apart)
    assert np.abs(restored("--luma=0.5", "--chroma=2") - expected).max() <= 1
    both = restored("--luma=2", "--chroma=2")
    assert np.abs(both - RESTORER.restore(image, level=40)).max() <= 1
    # At 0 the photograph's own luminance or colour stays, which no level of the network ensures.
    np.testing.assert_array_equal(restored("--luma=0", "--chroma=0"), image)
    expected = luma_with_chroma(image, RESTORER.restore(image, level=20))
    for strengths in ({"luma": 0.0}, {"chroma": 0.0}, {"luma": 0.5}):
        reports: list[tuple[int, int]] = []
        restore_photograph(
            RESTORER, Photograph(image), level=RESTORER.space.parse(20), **strengths,
            progress=lambda *counts, reports=reports: reports.append(counts),
        )  # fmt: skip
        shares = [done / of for done, of in reports]
        assert shares == sorted(shares) and shares[-1] == 1
        assert shares[0] <= 0.5 or len(shares) == 1
    assert np.abs(restored("--luma=0") - expected).max() <= 1
    plain = restored()
    assert np.abs(plain - RESTORER.restore(image, level=20)).max() <= 1
    for options in (["--luma=3"], ["--chroma=-1"], ["--chroma=nan"]):
        with pytest.raises(SystemExit):
            restored(*options)
        message = capsys.readouterr().err
        assert "0 to 2" in message or "finite number" in message


def test_where_there_are_no_strengths(photograph, tmp_path):
    source = tmp_path / "in.png"
    Image.fromarray(photograph[:20, :20]).save(source)
    with pytest.raises(UserError, match="cannot be enlarged differently"):
        restore_file(tiny_restorer("sr"), source, tmp_path / "a.png", Options(2, luma=0.5))
    grey = tmp_path / "grey.png"
    Image.fromarray(photograph[:20, :20, 0]).save(grey)
    restore_file(RESTORER, grey, tmp_path / "b.png", Options(20, luma=0.5, chroma=2.0))
    made = np.asarray(Image.open(tmp_path / "b.png")).astype(int)
    assert np.abs(made - RESTORER.restore(photograph[:20, :20, 0], level=10)).max() <= 1
