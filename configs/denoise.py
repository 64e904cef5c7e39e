"""Gaussian denoising, one network for every sigma from 0 to 100 (8-bit noise).

    python train.py --config=configs/denoise.py:compact --workdir=runs/denoise

Variants: base (the published size, for a GPU), compact (two CPU cores: 6,000
steps in about 45 minutes), published (HyperRes' own recipe).
"""

from hypernet_jax.training.recipes import recipe


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network."""
    variant, grey = variant.removesuffix("_grey"), variant.endswith("_grey")
    config = recipe(variant)
    config.task = "denoise"
    config.network.colours = 1 if grey else 3
    config.validation.levels = (5.0, 15.0, 25.0, 50.0, 75.0)
    if variant == "published":
        config.levels.fixed = (15.0, 35.0, 55.0, 75.0)
        config.levels.low, config.levels.high = 15.0, 75.0  # not used: the levels are fixed
    else:
        config.levels.low, config.levels.high = 0.0, 100.0  # published: fixed 15, 35, 55, 75
        config.levels.normalisation = "per_hundred"  # z = sigma / 100
    return config
