"""Removal of Gaussian blur, one network for every sigma from 0 to 4 pixels.

    python train.py --config=configs/deblur.py:compact --workdir=runs/deblur

Variants: base (the published size, for a GPU), compact (two CPU cores: 4,000
steps in about 30 minutes), published (HyperRes' recipe; its authors did not deblur).
"""

from hypernet_jax.training.recipes import recipe


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network."""
    variant, grey = variant.removesuffix("_grey"), variant.endswith("_grey")
    config = recipe(variant)
    config.task = "deblur"
    config.network.colours = 1 if grey else 3
    config.validation.levels = (0.0, 1.0, 2.0, 3.0, 4.0)
    if variant == "published":
        config.levels.fixed = (1.0, 2.0, 3.0, 4.0)
        config.levels.low, config.levels.high = 1.0, 4.0  # not used: the levels are fixed
    else:
        config.levels.low, config.levels.high = 0.0, 4.0
        config.levels.normalisation = "blur_loss"  # z = sigma^2 / (1 + sigma^2)
    if variant == "compact":
        config.steps = 4_000  # published: 1,000,000
    return config
