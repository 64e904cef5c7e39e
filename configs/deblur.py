"""Removal of Gaussian blur, one network for every sigma from 0 to 4 pixels.

    python train.py --config=configs/deblur.py:compact --workdir=runs/deblur

Variants: base (the published width and depth, for a GPU), compact (two CPU cores: 4,000
steps in about 30 minutes), published (HyperRes' recipe; the paper has no deblurring).
"""

from hypernet_jax.training.recipes import task_recipe


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network."""
    return task_recipe(
        variant,
        "deblur",
        drawn=(0.0, 4.0),
        published=(1.0, 2.0, 3.0, 4.0),
        validated=(0.0, 1.0, 2.0, 3.0, 4.0),
        compact_steps=4_000,
    )
