"""Super-resolution, one network for every scale from 1.5 to 5, fractions included.

    python train.py --config=configs/super_resolution.py:compact --workdir=runs/sr

Variants: base (the published width and depth, for a GPU), compact (two CPU cores: 4,000
steps in about 30 minutes), published (HyperRes' own recipe).
"""

from hypernet_jax.training.recipes import task_recipe


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network."""
    return task_recipe(
        variant,
        "sr",
        drawn=(1.5, 5.0),
        published=(2.0, 3.0, 4.0, 5.0),
        validated=(2.0, 3.0, 4.0, 5.0),
        compact_steps=4_000,
    )
