"""Super-resolution, one network for every scale from 1.5 to 5, fractions included.

    python train.py --config=configs/super_resolution.py:compact --workdir=runs/sr

Variants: base (the published size, for a GPU), compact (two CPU cores: 4,000
steps in about 30 minutes), published (HyperRes' own recipe).
"""

from hypernet_jax.training.recipes import recipe


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network."""
    variant, grey = variant.removesuffix("_grey"), variant.endswith("_grey")
    config = recipe(variant)
    config.task = "sr"
    config.network.colours = 1 if grey else 3
    config.validation.levels = (2.0, 3.0, 4.0, 5.0)
    if variant == "published":
        config.levels.fixed = (2.0, 3.0, 4.0, 5.0)
        config.levels.low, config.levels.high = 2.0, 5.0  # not used: the levels are fixed
    else:
        config.levels.low, config.levels.high = 1.5, 5.0  # published: fixed 2, 3, 4, 5
        config.levels.normalisation = "scale_loss"  # z = 1 - 1 / scale
    if variant == "compact":
        config.steps = 4_000  # published: 1,000,000
    return config
