"""Makes the text blocks and pictures of the reports from results."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from report_studies import BEGUN_FROM_SHIPPED, CHOICES, METHODS, STUDIES

from hypernet_jax.evaluation.drawing import draw_distance, draw_requested, draw_weight_space
from hypernet_jax.evaluation.report import markdown_table
from hypernet_jax.markdown import table
from hypernet_jax.tasks import get_task

__all__ = ["BLOCKS", "PICTURES", "Make", "Report"]


class Report(NamedTuple):
    """A task's name, its results by study, and results from the literature."""

    task: str
    results: dict[str, Any]
    published: dict[str, Any]


def named_rows(header: list[str], rows: list[list[str]]) -> str:
    """A table with text in the first column."""
    return table(header, rows, text_columns=1).rstrip()


def decibels(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.2f}"


def figures(report: Report) -> str:
    """The tables of `evaluate`, one per test set."""
    return "\n".join(markdown_table(one) for one in report.results["figures"]).rstrip()


def summary(report: Report) -> str:
    """The first test set in one table, a row per protocol: input -> restored."""
    levels = STUDIES[report.task].summary
    first = report.results["figures"][0]["dataset"]
    rows = []
    for one in report.results["figures"]:
        if one["dataset"] != first or not set(levels) <= {row["level"] for row in one["rows"]}:
            continue
        cells = {
            row["level"]: f"{decibels(row['psnr_input'])} → {decibels(row['psnr'])}"
            for row in one["rows"]
        }
        options = f"--weights={report.task} --dataset={first} --protocol={one['protocol']}"
        options += f" --levels={','.join(f'{level:g}' for level in levels)}"
        rows.append([f"`{options}`", *(cells[level] for level in levels)])
    header = [
        f"{first}, PSNR in dB: {get_task(report.task).space.single.quantity}",
        *(f"{level:g}" for level in levels),
    ]
    return named_rows(header, rows)


def beside_published(report: Report) -> str:
    """Published networks, with ours in the last rows."""
    published = report.published
    ours = next(
        one
        for one in report.results["figures"]
        if (one["dataset"], one["protocol"]) == (published["dataset"], published["protocol"])
    )
    rows = [
        [name, size, *(decibels(value) for value in values)]
        for name, size, values in published["rows"]
    ]
    size = f"{ours['parameters']['generated_parameters'] / 1e6:.2f} M"
    named = {f"**ours, `--weights={report.task}`**": ours}
    if "ensemble" in report.results:
        named["the same, mean of eight views: `--self_ensemble`"] = report.results["ensemble"]
    for name, one in named.items():
        by_level = {row["level"]: row["psnr"] for row in one["rows"]}
        rows.append([name, size, *(decibels(by_level.get(x)) for x in published["levels"])])
    header = [published["title"], "parameters", *(f"{level:g}" for level in published["levels"])]
    return f"{named_rows(header, rows)}\n\n{published['note']}"


def distances(comparison: dict[str, Any], dedicated: str, methods: dict[str, str]) -> str:
    """PSNR of dedicated networks (the row `dedicated`), and differences of the others to it."""
    psnr = comparison["rows"][dedicated]["psnr"]
    trained = f"{comparison['rows'][dedicated]['trainable']:,}"
    rows = [[f"{dedicated} networks, PSNR", trained, *(decibels(value) for value in psnr)]]
    for method, name in methods.items():
        if method in comparison["rows"]:
            row = comparison["rows"][method]
            differences = (decibels(x, "+") for x in np.subtract(row["psnr"], psnr))
            rows.append([name, f"{row['trainable']:,}", *differences])
    header = [
        f"{comparison['dataset']} ({comparison['images']} images), {comparison['protocol']}",
        "trained numbers",
        *(f"{level:g}" for level in comparison["levels"]),
    ]
    return named_rows(header, rows)


def distance(report: Report) -> str:
    """The loss of one network for all levels against dedicated ones, all trained from scratch."""
    return distances(report.results["comparison"], "dedicated", METHODS)


def specialised(report: Report) -> str:
    """As `distance`, for networks that start from the shipped weights."""
    return distances(report.results["specialised"], "specialised", BEGUN_FROM_SHIPPED)


def requested(report: Report) -> str:
    """How smooth PSNR is in the requested level, in words."""
    fine, study = report.results["requested"]["fine"], report.results["requested"]["table"]
    asked, around = np.asarray(fine["requested"]), np.asarray(fine["psnr"][0])
    steps = np.abs(np.diff(around) / np.diff(asked))
    level = get_task(report.task).space.single.quantity
    best = asked[int(np.argmax(around))]
    cost = around.max() - around
    # Levels that are nearly right.
    near = asked[cost <= 0.05]
    inside = steps[(asked[:-1] >= near[0]) & (asked[1:] <= near[-1])]
    psnr = np.asarray(study["psnr"])
    diagonal = np.array([psnr[i, i] for i in range(len(psnr))])
    lost = float(np.max(psnr.max(axis=1) - diagonal))
    sentences = [
        f"{study['images']} images of {study['dataset']}, {study['protocol']} protocol, seed "
        f"{study['seed']}.",
        f"Where the {level} is {fine['levels'][0]:g}, asking for {best:g} is best.",
        f"From {asked[0]:g} to {asked[-1]:g} PSNR changes by at most {steps.max():.3f} dB per unit "
        f"and is {cost[0]:.2f} dB below the best at {asked[0]:g} and {cost[-1]:.2f} dB at "
        f"{asked[-1]:g}.",
        f"At the levels of the picture, asking for the true one costs at most {lost:.2f} dB "
        "against the best request.",
    ]
    if inside.size:
        sentences.insert(
            2,
            f"Anything from {near[0]:g} to {near[-1]:g} costs at most 0.05 dB, and changes by at "
            f"most {inside.max():.3f} dB per unit.",
        )
    return " ".join(sentences)


def blind(report: Report) -> str:
    """Compares known and estimated levels."""
    study = report.results["blind"]
    rows = [
        [
            f"{row['level']:g}",
            f"{row['estimate']:.2f}",
            f"{row['mean_error']:.2f}",
            decibels(row["psnr_known"]),
            decibels(row["psnr_blind"]),
            f"{row['psnr_blind'] - row['psnr_known']:+.3f}",
        ]
        for row in study["rows"]
    ]
    header = ["level", "mean estimate", "mean error", "PSNR, known", "PSNR, estimated", "lost"]
    quantity = get_task(report.task).space.single.quantity
    caption = f"{study['images']} images of {study['dataset']}, {study['protocol']} protocol, seed "
    return f"{caption}{study['seed']}; level: {quantity}.\n\n{named_rows(header, rows)}"


def weights(report: Report) -> str:
    """Principal components and ratios of norms; n networks have at most n - 1 components."""
    spaces = report.results["weights"]
    rows = [
        [
            METHODS.get(name, name),
            str(len(space["levels"])),
            *(f"{100 * x:.2f} %" for x in space["explained"][:3]),
        ]
        for name, space in (
            (name, spaces[name]) for name in (*METHODS, "dedicated") if name in spaces
        )
    ]
    parts = [named_rows(["variance along component", "levels", "1", "2", "3"], rows)]
    space = next(spaces[name] for name in METHODS if name in spaces)
    header = ["level", *(f"{level:g}" for level in space["levels"])]
    z = np.asarray(space["z"])
    last = int(np.argmax(np.abs(z)))
    ratio = np.asarray(space["ratio"]) / space["ratio"][last]
    ratios = [
        ["z over the largest z", *(f"{x:.2f}" for x in z / z[last])],
        ["norm of the kernels over that at the largest z", *(f"{x:.2f}" for x in ratio)],
    ]
    parts.append(named_rows(header, ratios))
    return "\n\n".join(parts)


def choices(report: Report) -> str:
    """The gain of each part of the recipe."""
    runs = report.results["choices"]
    levels = list(runs["equal"]["levels"])
    rows = []
    for name, (title, override) in CHOICES.items():
        if name not in runs:
            continue
        run = runs[name]
        difference = run["psnr"] - runs["equal"]["psnr"]
        mean = "" if name == "equal" else f"{difference:+.2f}"
        values = (decibels(run["levels"][level]) for level in levels)
        rows.append([title, f"`{override}`" if override else "", *values, mean])
    return named_rows(["replaced", "by", *levels, "mean"], rows)


def picture_distance(report: Report) -> bytes:
    comparison = report.results["comparison"]
    dedicated = comparison["rows"]["dedicated"]["psnr"]
    curves = {
        name: (
            comparison["levels"],
            np.subtract(comparison["rows"][method]["psnr"], dedicated).tolist(),
        )
        for method, name in METHODS.items()
        if method in comparison["rows"]
    }
    from_papers = {
        name: (levels, values) for name, levels, values in report.published.get("distance", ())
    }
    axis = get_task(report.task).space.single
    return draw_distance(curves, from_papers, level=f"{axis.quantity} ({axis.unit})")


def picture_requested(report: Report) -> bytes:
    return draw_requested(
        report.results["requested"]["table"], level=get_task(report.task).space.single.quantity
    )


def picture_weights(report: Report) -> bytes:
    names = {"hypernetwork": "affine", "polynomial": "quadratic", "dedicated": "dedicated"}
    spaces = report.results["weights"]
    return draw_weight_space({names[k]: spaces[k] for k in names if k in spaces})


Make = Callable[[Report], Any]

# For each block or picture: the studies that it needs, and the function that makes it.
BLOCKS: dict[str, tuple[tuple[str, ...], Make]] = {
    "figures": (("figures",), figures),
    "summary": (("figures",), summary),
    "published": (("figures",), beside_published),
    "distance": (("comparison",), distance),
    "specialised": (("specialised",), specialised),
    "requested": (("requested",), requested),
    "blind": (("blind",), blind),
    "weights": (("weights",), weights),
    "choices": (("choices",), choices),
}
PICTURES: dict[str, tuple[tuple[str, ...], Make]] = {
    "distance": (("comparison",), picture_distance),
    "requested": (("requested",), picture_requested),
    "weights": (("weights",), picture_weights),
}
