"""Images for other programs, and the evaluation of their results."""

import dataclasses

import pytest
from PIL import Image

from hypernet_jax import UserError
from hypernet_jax.degradations import DOWN_UP, QUANTISE, Chain
from hypernet_jax.evaluation.measure import evaluate
from hypernet_jax.evaluation.others import evaluate_results, write_inputs
from hypernet_jax.images.reading import read_image
from hypernet_jax.tasks import get_task

from .models import tiny_restorer
from .scripts import run_script


@pytest.fixture
def clean(photograph, tmp_path):
    folder = tmp_path / "clean"
    (folder / "more").mkdir(parents=True)
    Image.fromarray(photograph[:37, :51]).save(folder / "odd.png")
    Image.fromarray(photograph[50:90, 60:100, 1]).save(folder / "more/grey.png")
    return folder


@pytest.mark.parametrize(
    ("task", "levels", "protocol"),
    [
        ("denoise", "15,25.5", None),
        ("denoise", "15", "grey"),
        ("dejpeg", "20", "colour"),
        ("sr", "2,3", None),
        ("photo", "noise=10,jpeg=60,blur=1", "white"),
    ],
)
def test_what_our_network_makes_of_the_inputs_measures_as_our_network(
    task, levels, protocol, clean, tmp_path
):
    restorer, options = tiny_restorer(task), {"levels": levels, "protocol": protocol, "seed": 3}
    ours = evaluate(restorer, clean, progress=False, **options)
    inputs = write_inputs(get_task(task), clean, tmp_path / "in", progress=False, **options)
    for folder in inputs:
        for path in folder.rglob("*.png"):
            restored = restorer.restore(read_image(path), level=folder.name)
            target = tmp_path / "out" / path.relative_to(tmp_path / "in").with_suffix(".tif")
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(restored[..., 0] if restored.shape[-1] == 1 else restored).save(target)
    others = evaluate_results(get_task(task), clean, tmp_path / "out", progress=False, **options)
    assert len(inputs) == len(ours["rows"]) and others["protocol"] == ours["protocol"]
    for row, other in zip(ours["rows"], others["rows"], strict=True):
        assert row["level"] == other["level"]
        for one, another in zip(row["each"], other["each"], strict=True):
            assert one.keys() == another.keys() and one["image"] == another["image"]
            for name in one.keys() - {"image"}:
                assert another[name] == pytest.approx(one[name], abs=0.02), name


def test_script(clean, tmp_path):
    options = ["--task=denoise", "--levels=15", f"--dataset={clean}"]
    for more in (f"--inputs={tmp_path / 'in'}", f"--results={tmp_path / 'in'}"):
        process = run_script("evaluate.py", *options, more)
        assert process.returncode == 0, process.stderr
        message = f"wrote {tmp_path / 'in' / '15'}" if "inputs" in more else "| 15 | 2 |"
        assert message in process.stdout


def test_mistakes(clean, tmp_path):
    denoise, place = get_task("denoise"), tmp_path / "in"
    for refused in (write_inputs, evaluate_results):
        with pytest.raises(UserError, match="float has images of more than 8 bits"):
            refused(denoise, clean, place, levels="0,15", protocol="float", progress=False)
    with pytest.raises(UserError, match="Two of the levels have one folder"):
        write_inputs(denoise, clean, place, levels="2.33333331,2.33333332", progress=False)
    (clean / "z.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"z\.png is not an image"):
        write_inputs(denoise, clean, place, levels=15, progress=False)
    Image.new("RGB", (3, 3)).save(clean / "z.png")
    with pytest.raises(UserError, match="too small for the level 4"):
        write_inputs(get_task("sr"), clean, place, levels="2,4", progress=False)
    (clean / "z.png").unlink()
    assert not place.exists()
    with pytest.raises(UserError, match="lies among the images"):
        write_inputs(denoise, clean, clean / "in", levels=15)
    # The folder of a level may be that of the clean images.
    clean.rename(tmp_path / "15")
    for write in (False, True):
        with pytest.raises(UserError, match="15 lies among the images"):
            write_inputs(denoise, tmp_path / "15", tmp_path, levels=15, overwrite=write)
    (tmp_path / "15").rename(clean)
    (folder,) = write_inputs(denoise, clean, place, levels=15, progress=False)
    with pytest.raises(UserError, match=r"grey\.png already exists.*--overwrite"):
        write_inputs(denoise, clean, place, levels="10,15")
    assert not (place / "10").exists()
    (place / "10").mkdir()
    (place / "10" / "odd.png").symlink_to(place / "nowhere")
    with pytest.raises(UserError, match=r"10/odd\.png already exists"):
        write_inputs(denoise, clean, place, levels=10)
    assert not (place / "nowhere").exists()
    assert [each.name for each in (place / "10").iterdir()] == ["odd.png"]
    assert write_inputs(denoise, clean, place, levels=15, overwrite=True) == [folder]
    results = evaluate_results(denoise, clean, place, levels=15, progress=False)
    assert results["rows"][0]["psnr"] == results["rows"][0]["psnr_input"]
    with pytest.raises(UserError, match=r"no folder .*25; put the results of .* 25 there"):
        evaluate_results(denoise, clean, place, levels="15,25")
    Image.new("RGB", (50, 37)).save(folder / "odd.png")
    with pytest.raises(UserError, match=r"50x37 pixels, but .* with 51x37; give"):
        evaluate_results(denoise, clean, place, levels=15)
    Image.new("L", (51, 37)).save(folder / "odd.png")
    with pytest.raises(UserError, match=r"1 channels, but .* with 3; save the results in colour"):
        evaluate_results(denoise, clean, place, levels=15)
    (folder / "odd.png").unlink()
    for lossy in ("odd.jpg", "odd.webp"):
        Image.new("RGB", (51, 37)).save(folder / lossy)
        with pytest.raises(UserError, match="can lose detail; give the results as PNG or TIFF"):
            evaluate_results(denoise, clean, place, levels=15)
        (folder / lossy).unlink()
    with pytest.raises(UserError, match="has no image odd; give one for each"):
        evaluate_results(denoise, clean, place, levels=15)


def test_images_that_are_not_only_reduced_have_no_small_form(clean, tmp_path):
    sr = get_task("sr")
    name, rule = sr.protocol(None)
    other = dataclasses.replace(rule, degradation=Chain(DOWN_UP, QUANTISE, QUANTISE))
    task = dataclasses.replace(sr, protocols={name: other})
    with pytest.raises(UserError, match="images of sr are not reduced alone"):
        write_inputs(task, clean, tmp_path / "inputs", levels=2)
    assert not (tmp_path / "inputs").exists()
