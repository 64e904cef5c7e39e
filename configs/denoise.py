"""Gaussian denoising, one network for every sigma from 0 to 100 (8-bit noise).

    python train.py --config=configs/denoise.py:compact --workdir=runs/denoise

Variants: base (the published width and depth, for a GPU), compact (two CPU cores: 6,000
steps in about 45 minutes), published (HyperRes' own recipe).
"""

from hypernet_jax.training.recipes import task_recipe


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network."""
    return task_recipe(
        variant,
        "denoise",
        drawn=(0.0, 100.0),
        published=(15.0, 35.0, 55.0, 75.0),
        validated=(5.0, 15.0, 25.0, 50.0, 75.0),
        compact_steps=6_000,
    )
