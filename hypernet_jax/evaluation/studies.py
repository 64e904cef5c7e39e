"""Studies of one network for all levels: wrong and estimated levels, the space of weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.flatten_util import ravel_pytree

from hypernet_jax.evaluation.measure import degraded_pair, measured_area, restore_degraded
from hypernet_jax.hypernet import Theta
from hypernet_jax.images.folders import find_images, spread
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.levels import AUTO, Level
from hypernet_jax.metrics import psnr
from hypernet_jax.model import Model

__all__ = ["blind_study", "requested_study", "weight_space"]


class _Degraded:
    """The images of a folder, degraded under a protocol."""

    def __init__(
        self, restorer: Restorer, dataset: str | Path, protocol: str | None, seed: int, images: int
    ):
        self._restorer, self._seed = restorer, seed
        self._folder = Path(dataset)
        self.protocol, self._rule = restorer.model.task.protocol(protocol)
        paths = find_images(self._folder)
        self.paths = [paths[index] for index in spread(len(paths), images)]

    def pair(self, path: Path, level: Level) -> tuple[np.ndarray, np.ndarray]:
        """(degraded, reference) for one image, in 8-bit range."""
        return degraded_pair(path, self._folder, self._rule, level, seed=self._seed)

    def psnr(
        self, degraded: np.ndarray, reference: np.ndarray, *, level: Level, requested: Level
    ) -> float:
        """PSNR (dB) of an image degraded at `level` and restored at `requested`."""
        restored = restore_degraded(self._restorer, degraded, requested)
        return psnr(*measured_area(restored, reference, self._rule, level))

    def description(self) -> dict[str, Any]:
        """The conditions that a table must state."""
        return {
            "weights": self._restorer.model.fingerprint(self._restorer.theta),
            "dataset": self._folder.resolve().name,
            "protocol": self.protocol,
            "images": len(self.paths),
            "seed": self._seed,
        }


def requested_study(
    restorer: Restorer,
    dataset: str | Path,
    *,
    levels: Sequence[float],
    requested: Sequence[float],
    protocol: str | None = None,
    seed: int = 0,
    images: int = 0,
) -> dict[str, Any]:
    """Measures the loss from requesting a level other than the true one.

    Args:
      restorer: the restorer to evaluate.
      dataset: a folder of clean images.
      levels: true levels, in native units.
      requested: levels that the network is generated for.
      protocol: name of one of the task's protocols; None: the first.
      seed: seed of the noise.
      images: number of the folder's images to use, evenly spread; 0: all.

    Returns:
      {"psnr": mean dB, one row per true level and one column per requested one, ...}.
    """
    degraded = _Degraded(restorer, dataset, protocol, seed, images)
    true, asked = ([restorer.space.parse(each) for each in given] for given in (levels, requested))
    table = np.zeros((len(true), len(asked)))
    for path in degraded.paths:
        for row, level in enumerate(true):
            pair = degraded.pair(path, level)
            for column, other in enumerate(asked):
                table[row, column] += degraded.psnr(*pair, level=level, requested=other)
    return {
        **degraded.description(),
        "levels": [level.plain() for level in true],
        "requested": [level.plain() for level in asked],
        "psnr": (table / len(degraded.paths)).tolist(),
    }


def blind_study(
    restorer: Restorer,
    dataset: str | Path,
    *,
    levels: Sequence[float],
    protocol: str | None = None,
    seed: int = 0,
    images: int = 0,
) -> dict[str, Any]:
    """Measures the loss from estimating the level; arguments as for `requested_study`.

    Returns:
      {"rows": for each level the mean estimate, its mean error, and PSNR with the known and
      with the estimated level, ...}.
    """
    degraded = _Degraded(restorer, dataset, protocol, seed, images)
    task, space = restorer.model.task, restorer.space
    rows = []
    for level in map(space.parse, levels):
        figures = []
        for path in degraded.paths:
            pair = degraded.pair(path, level)
            pixels = np.asarray(pair[0], np.float32) / np.float32(255.0)
            found, _ = resolve_level(task, AUTO, pixels, None)
            known, blind = (
                degraded.psnr(*pair, level=level, requested=requested)
                for requested in (level, found)
            )
            figures.append((float(found), abs(float(found) - float(level)), known, blind))
        names = ("estimate", "mean_error", "psnr_known", "psnr_blind")
        means = np.mean(figures, axis=0).tolist()
        rows.append({"level": float(level), **dict(zip(names, means, strict=True))})
    return {**degraded.description(), "rows": rows}


def weight_space(model: Model, theta: Theta, levels: Sequence[float]) -> dict[str, Any]:
    """The generated parameters as points in parameter space, one per level.

    Returns:
      {"explained": share of the variance along each principal component,
      "components": coordinates (levels, 2) along the first two,
      "ratio": norms of the level-dependent parameters relative to the last level,
      "z": the normalised levels}. Parameters proportional to the level would have ratios
      proportional to z; parameters affine in it have a single component.
    """
    axis, level_dependent = model.task.space.single, {**theta, "shared": {}}
    generated = [ravel_pytree(model.generate(level_dependent, level))[0] for level in levels]
    points = np.asarray(generated, np.float64)
    centred = points - points.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    norms = np.linalg.norm(points, axis=1)
    coordinates = np.pad(u * s, ((0, 0), (0, 2)))[:, :2]
    return {
        "levels": [float(level) for level in levels],
        "z": [float(axis.normalise(level)) for level in levels],
        "explained": (s**2 / np.sum(s**2))[:4].tolist(),
        "components": coordinates.tolist(),
        "ratio": (norms / norms[-1]).tolist(),
    }
