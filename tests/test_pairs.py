"""Evaluation on real pairs: means of the pairs, and refusal of incomplete pairs."""

import numpy as np
import pytest
from PIL import Image

from hypernet_jax import UserError
from hypernet_jax.evaluation.pairs import evaluate_pairs
from hypernet_jax.metrics import psnr

from .models import RESTORER


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
    assert auto["level"] == "auto" and auto["mean_level"] == pytest.approx(10, abs=2)
    (tmp_path / "clean" / "1.png").unlink()
    with pytest.raises(UserError, match="only one of noisy and clean has an image 1"):
        evaluate_pairs(RESTORER, tmp_path)
    Image.fromarray(clean).save(tmp_path / "clean" / "0.jpg")
    with pytest.raises(UserError, match=r"has two images 0, 0\.jpg and 0\.png; remove one"):
        evaluate_pairs(RESTORER, tmp_path)
