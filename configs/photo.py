"""Ordinary photographs: camera noise, JPEG and blur, in one network for all of them.

    python train.py --config=configs/photo.py:unet --workdir=runs/photo

Variants: base (the published width and depth, for a GPU), compact and unet (two CPU cores),
published (HyperRes' recipe; the paper has only levels of one number).
"""

from hypernet_jax.training.recipes import task_recipe


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network."""
    config = task_recipe(
        variant,
        "photo",
        drawn={"noise": (0.0, 60.0), "jpeg": (15.0, 100.0), "blur": (0.0, 2.5)},
        published=({"noise": 15}, {"noise": 35, "jpeg": 50}, {"jpeg": 20}, {"blur": 1}),
        validated=(
            {},
            {"noise": 5},
            {"noise": 15},
            {"noise": 40},
            {"jpeg": 30},
            {"blur": 1},
            {"noise": 15, "jpeg": 60},
        ),
        compact_steps=20_000,
    )
    if not variant.startswith("published"):
        # Most photographs have weak noise and weak blur, and many have only one of the three.
        config.levels.power = (2.0, 1.0, 1.5)
        config.levels.absent = (0.1, 0.5, 0.7)
        # At the neutral level restoration is exact, where this loss is smooth.
        config.loss = "charbonnier"
        # Most photographs have a camera's native resolution, some are downscaled.
        config.data.softened = 0.8
        # Some are taken in the dark, where noise is strong.
        config.data.darkened = 0.2
    return config
