"""JPEG artefact removal, one network for every quality.

    python train.py --config=configs/dejpeg.py:compact --workdir=runs/dejpeg

Variants: base (the published size, for a GPU), compact (two CPU cores: 4,000
steps in about 30 minutes), published (HyperRes' own recipe).
"""

from hypernet_jax.training.recipes import recipe


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network."""
    variant, grey = variant.removesuffix("_grey"), variant.endswith("_grey")
    config = recipe(variant)
    config.task = "dejpeg"
    config.network.colours = 1 if grey else 3
    config.validation.levels = (10.0, 20.0, 30.0, 40.0, 80.0)
    if variant == "published":
        config.levels.fixed = (10.0, 30.0, 50.0, 80.0)
        config.levels.low, config.levels.high = 10.0, 80.0  # not used: the levels are fixed
    else:
        config.levels.low, config.levels.high = 5.0, 95.0  # published: fixed 10, 30, 50, 80
        config.levels.normalisation = "jpeg_error"  # z = sqrt(libjpeg's quantiser scale)
    if variant == "compact":
        config.steps = 4_000  # published: 1,000,000
    return config
