"""Blur, white noise and JPEG at once, one network for every mixture.

    python train.py --config=configs/mixed.py:unet --workdir=runs/mixed

The axes are those of He et al., Interactive Multi-Dimension Modulation for Image Restoration
(CResMD), ECCV 2020. Variants: base (the published width and depth, for a GPU), compact and unet
(two CPU cores), published (HyperRes' recipe; the paper has only levels of one number). With
"_cells" after it: a network of its own for each of the benchmark's mixtures, trained side by side.
"""

from hypernet_jax import get_task
from hypernet_jax.training.recipes import task_recipe

# The mixtures of the benchmark.
CELLS = ({}, *get_task("mixed").levels)


def get_config(variant="base"):
    """The training config of one variant; append "_grey" for a grey network, then "_cells"."""
    variant, cells = variant.removesuffix("_cells"), variant.endswith("_cells")
    config = task_recipe(
        variant,
        "mixed",
        drawn={"blur": (0.0, 4.0), "noise": (0.0, 50.0), "jpeg": (10.0, 100.0)},
        published=({"blur": 1}, {"blur": 4, "noise": 15}, {"noise": 50}, {"jpeg": 10}),
        validated=(
            {},
            {"noise": 15},
            {"blur": 1},
            {"jpeg": 10},
            {"blur": 1, "noise": 15, "jpeg": 80},
            {"blur": 4, "noise": 50, "jpeg": 10},
        ),
        compact_steps=20_000,
    )
    if not variant.startswith("published"):
        # Three kinds in 30 % of the crops, two in 44 %, one in 22 %, none in the rest.
        config.levels.absent = (0.35, 0.3, 0.35)
        # At the neutral level restoration is exact, where this loss is smooth.
        config.loss = "charbonnier"
    if cells:
        config.features.name = "independent"
        config.features.levels = config.levels.fixed = CELLS
        config.levels.weighting = "equal"  # the networks share nothing
    return config
