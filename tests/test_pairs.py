"""Evaluation on real pairs: means of the pairs, and refusal of incomplete pairs."""

import warnings

import numpy as np
import pytest
from PIL import Image

from hypernet_jax import UserError
from hypernet_jax.evaluation.measure import means_of
from hypernet_jax.evaluation.pairs import evaluate_pairs
from hypernet_jax.evaluation.report import markdown_table
from hypernet_jax.metrics import psnr

from .models import RESTORER, tiny_restorer


def test_figures_of_pairs(photograph, tmp_path):
    clean, noisy = photograph[:80, :90], {}
    for name in ("clean", "noisy"):
        (tmp_path / name).mkdir()
    for seed in (0, 1):
        noise = np.random.default_rng(seed).normal(0, 10, clean.shape)
        noisy[seed] = np.clip(np.round(clean + noise), 0, 255).astype(np.uint8)
        Image.fromarray(clean).save(tmp_path / "clean" / f"{seed}.png")
        Image.fromarray(noisy[seed]).save(tmp_path / "noisy" / f"{seed}.png")
    fixed, auto = evaluate_pairs(RESTORER, tmp_path, levels=("10", "auto"))["rows"]
    restored = [RESTORER.restore(image, level=10) for image in noisy.values()]
    assert fixed["psnr"] == pytest.approx(np.mean([psnr(one, clean) for one in restored]))
    assert fixed["psnr_input"] == pytest.approx(np.mean([psnr(n, clean) for n in noisy.values()]))
    dark = [(one.astype(float) - clean)[clean < 32].mean() for one in restored]
    assert fixed["dark_bias"] == pytest.approx(np.mean(dark))
    assert fixed["level"] == 10 and [one["image"] for one in fixed["each"]] == ["0.png", "1.png"]
    assert fixed["psnr"] == pytest.approx(np.mean([one["psnr"] for one in fixed["each"]]))
    assert auto["level"] == "auto" and auto["mean_level"] == pytest.approx(10, abs=2)
    (tmp_path / "clean" / "1.png").unlink()
    with pytest.raises(UserError, match="only one of noisy and clean has an image 1"):
        evaluate_pairs(RESTORER, tmp_path)
    Image.fromarray(clean).save(tmp_path / "clean" / "0.jpg")
    with pytest.raises(UserError, match=r"has two images 0, 0\.jpg and 0\.png; remove one"):
        evaluate_pairs(RESTORER, tmp_path)


def saved_pair(folder, name, noisy, clean):
    for kind, pixels in (("noisy", noisy), ("clean", clean)):
        path = folder / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def test_pairs_are_found_by_their_whole_names(photograph, tmp_path):
    for place in ("a", "b"):
        saved_pair(tmp_path, f"{place}/1.png", photograph[:20, :30], photograph[:20, :30])
    (row,) = evaluate_pairs(RESTORER, tmp_path, levels="0", progress=False)["rows"]
    assert [one["image"] for one in row["each"]] == ["a/1.png", "b/1.png"]
    (tmp_path / "noisy" / "c").mkdir()
    (tmp_path / "noisy/b/1.png").rename(tmp_path / "noisy/c/1.png")
    with pytest.raises(UserError, match="only one of noisy and clean has an image b/1"):
        evaluate_pairs(RESTORER, tmp_path)


@pytest.mark.parametrize("other", [np.s_[:21, :30], np.s_[:20, :30, 0]])
def test_what_is_no_pair_is_refused_by_name(other, photograph, tmp_path):
    saved_pair(tmp_path, "1.png", photograph[:20, :30], photograph[other])
    with pytest.raises(UserError, match=r"noisy/1\.png and .*clean/1\.png are no pair"):
        evaluate_pairs(RESTORER, tmp_path)


def test_pairs_need_a_task_that_keeps_the_size(tmp_path):
    with pytest.raises(UserError, match="sr enlarges"):
        evaluate_pairs(tiny_restorer("sr"), tmp_path)


def test_pairs_without_dark_pixels_have_no_dark_bias(photograph, tmp_path):
    bright = np.maximum(photograph[:20, :30], 60)
    saved_pair(tmp_path, "1.png", bright, bright)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = evaluate_pairs(RESTORER, tmp_path, levels=10, progress=False)
    assert np.isnan(results["rows"][0]["dark_bias"])
    assert "| – | – |" in markdown_table(results)
    assert results["self_ensemble"] is False and len(results["weights"]) == 64


def test_means_leave_out_only_what_an_image_cannot_have():
    nan = float("nan")
    one = {"image": "a", "psnr": 30.0, "ssim": 0.5, "dark_bias": nan}
    row = means_of([one, {"image": "b", "psnr": nan, "ssim": nan, "dark_bias": nan}])
    assert row["images"] == 2 and row["ssim"] == 0.5
    assert np.isnan(row["psnr"]) and np.isnan(row["dark_bias"])


def test_partly_estimated_levels_are_shown(photograph, tmp_path):
    saved_pair(tmp_path, "1.png", photograph[:64, :64], photograph[:64, :64])
    asked = "noise=auto,jpeg=60; auto; noise=15"
    results = evaluate_pairs(tiny_restorer("photo"), tmp_path, levels=asked, progress=False)
    shown = [row["level"] for row in results["rows"]]
    assert shown[:2] == ["noise=auto,jpeg=60,blur=0", "auto"] and shown[2]["noise"] == 15
