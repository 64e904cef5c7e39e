"""JPEG artefact removal, one network for every quality.

    python train.py --config=configs/dejpeg.py:compact --workdir=runs/dejpeg

Variants: base (the published width and depth, for a GPU), compact (two CPU cores: 4,000
steps in about 30 minutes), published (HyperRes' own recipe).
"""

from hypernet_jax.training.recipes import task_recipe


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network."""
    return task_recipe(
        variant,
        "dejpeg",
        drawn=(5.0, 95.0),
        published=(10.0, 30.0, 50.0, 80.0),
        validated=(10.0, 20.0, 30.0, 40.0, 80.0),
        compact_steps=4_000,
    )
