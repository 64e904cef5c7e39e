"""Studies measure correctly, and pages match the stored results."""

import io

import numpy as np
import pytest
from PIL import Image
from report import filled, load, made, of_other_weights, pages
from report_blocks import BLOCKS, Report
from report_studies import STUDIES, measure_study, with_stored

from hypernet_jax import Restorer, UserError, checkpoints, make_model
from hypernet_jax.evaluation.drawing import draw_distance, draw_requested, draw_weight_space
from hypernet_jax.evaluation.measure import evaluate
from hypernet_jax.evaluation.studies import blind_study, requested_study, weight_space

from .models import tiny_config, tiny_theta

LEVELS = [10.0, 40.0]


@pytest.fixture(scope="module")
def restorer():
    return Restorer(make_model(tiny_config()), tiny_theta(tiny_config()))


@pytest.fixture(scope="module")
def folder(photograph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index in range(3):
        Image.fromarray(photograph[90 * index :, 60:][:80, :96]).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def evaluated(restorer, folder):
    return [row["psnr"] for row in evaluate(restorer, folder, levels=LEVELS)["rows"]]


def test_requested_levels(restorer, folder, evaluated):
    """Requesting the true level equals `evaluate`; another level gives another network."""
    study = requested_study(restorer, folder, levels=LEVELS, requested=[10, 25, 40])
    psnr = np.array(study["psnr"])
    assert psnr.shape == (2, 3) and study["images"] == 3 and study["protocol"] == "8-bit"
    np.testing.assert_allclose([psnr[0, 0], psnr[1, 2]], evaluated, atol=1e-4)
    assert len({round(value, 3) for value in psnr[0]}) == 3
    assert requested_study(restorer, folder, levels=[10], requested=[10], images=2)["images"] == 2


def test_estimated_levels(restorer, folder, evaluated):
    rows = blind_study(restorer, folder, levels=LEVELS)["rows"]
    np.testing.assert_allclose([row["psnr_known"] for row in rows], evaluated, atol=1e-4)
    for row in rows:
        assert 0.0 < row["mean_error"] < 6.0
        assert row["psnr_blind"] != row["psnr_known"]


@pytest.mark.parametrize(("features", "components"), [("affine", 1), ("polynomial", 2)])
def test_space_of_weights(features, components):
    """Affine kernels lie on a line, and quadratic ones in a plane."""
    config = tiny_config() | {"features": {"name": features}}
    space = weight_space(make_model(config), tiny_theta(config), [0, 10, 40, 70, 100])
    assert sum(space["explained"][:components]) == pytest.approx(1.0, abs=1e-9)
    assert space["explained"][components - 1] > 1e-6
    assert space["z"] == pytest.approx([0, 0.1, 0.4, 0.7, 1])


def test_proportional_kernels_have_the_ratios_of_their_levels():
    config = tiny_config() | {"features": {"name": "proportional"}}
    space = weight_space(make_model(config), tiny_theta(config), [10, 40, 70, 100])
    assert space["ratio"] == pytest.approx(space["z"], rel=1e-5)


def test_pictures(restorer):
    space = weight_space(make_model(tiny_config()), tiny_theta(tiny_config()), [0, 50, 100])
    study = {"levels": [1, 2], "requested": [1, 2, 3], "psnr": [[30, 29, 20], [25, 28, 27]]}
    curve = ([5, 15], [-0.2, 0.0])
    for draw in (
        lambda: draw_distance({"ours": curve}, {"theirs": curve}, level="sigma"),
        lambda: draw_requested(study, level="sigma"),
        lambda: draw_weight_space({"affine": space, "again": space}),
    ):
        first = draw()
        pixels = np.asarray(Image.open(io.BytesIO(first)).convert("RGB"))
        assert min(pixels.shape[:2]) > 150 and pixels.std() > 10
        assert draw() == first


@pytest.mark.parametrize("task", sorted(STUDIES))
def test_pages_hold_their_results(task):
    """`python experiments/report.py TASK` would change nothing."""
    report = load(task)
    texts = pages(report)
    for path, text in texts.items():
        assert path.read_text() == text
    page, card, readme = texts.values()
    blocks = made(report, BLOCKS)
    assert blocks["figures"] in page and blocks["figures"] in card and blocks["summary"] in readme
    # A mark that was lost would leave its figures out in silence.
    elsewhere = {"summary": readme}
    for name, text in blocks.items():
        assert text in elsewhere.get(name, page), name


def test_results_of_other_weights_are_named(monkeypatch):
    results = load("sr").results
    assert of_other_weights(Report("sr", results, {})) == []
    changed = results | {"figures": [one | {"weights": "x"} for one in results["figures"]]}
    assert of_other_weights(Report("sr", changed, {})) == ["figures"]


def test_runs_of_one_table_have_equal_steps():
    def study(**steps):
        return {"levels": [1], "rows": {name: {"steps": count} for name, count in steps.items()}}

    stored = study(dedicated=600, equal=600)
    both = with_stored("comparison", stored, study(equal=600, hypernetwork=600))
    assert list(both["rows"]) == ["dedicated", "equal", "hypernetwork"]
    with pytest.raises(UserError, match=r"different numbers of steps \(.*hypernetwork 1000"):
        with_stored("comparison", stored, study(hypernetwork=1000))
    specialised = study(specialised=600, continued=600, shipped=0)
    assert with_stored("specialised", specialised, specialised) == specialised
    with pytest.raises(UserError, match="another test set, levels or images"):
        with_stored("comparison", stored | {"levels": [2]}, stored)
    with pytest.raises(UserError, match="different numbers of steps"):
        with_stored("choices", {"equal": {"step": 600}}, {"adam": {"step": 300}})
    assert with_stored("figures", stored, "new") == "new"


@pytest.mark.parametrize("study", ["comparison", "weights", "choices"])
def test_a_folder_without_runs_is_reported(study, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        measure_study(study, "denoise", datasets=tmp_path, runs=tmp_path)


def test_a_missing_test_set_is_reported_before_measuring(folder, tmp_path):
    (tmp_path / "CBSD68").symlink_to(folder)
    with pytest.raises(UserError, match="Kodak24"):
        measure_study("figures", "denoise", datasets=tmp_path, runs=None)


def test_an_unfinished_run_is_reported(tmp_path, monkeypatch):
    (tmp_path / "denoise-equal" / "checkpoints" / "300").mkdir(parents=True)
    monkeypatch.setattr(checkpoints, "load_ema", lambda workdir: ({"steps": 600}, {}))
    with pytest.raises(UserError, match="has 300 of its 600 steps"):
        measure_study("comparison", "denoise", datasets=tmp_path, runs=tmp_path)


def test_an_open_block_is_reported():
    assert filled("a\n<!-- x -->\nold\n<!-- end -->\nb", {"x": "new"}).split() == [
        "a", "<!--", "x", "-->", "new", "<!--", "end", "-->", "b",
    ]  # fmt: skip
    with pytest.raises(UserError, match="x has no"):
        filled("<!-- x -->\n", {"x": "new"})
