"""Writes figures to the pages of docs/results, to model cards and README.

    python experiments/report.py denoise
    python experiments/report.py denoise --measure figures,requested,blind --datasets DIR
    python experiments/report.py denoise --measure comparison --datasets DIR --runs RUNS

The first form needs only the repository: from experiments/results/ it draws docs/images/ and
fills the blocks of the page and the model card (between `<!-- NAME -->` and `<!-- end -->`; in
the README `<!-- TASK NAME -->`). `--measure` updates experiments/results/. DIR contains the test
sets CBSD68, Kodak24, LIVE1, Set5 and Set14 as folders; RUNS contains the workdirs of
configs/comparison.py as TASK-METHOD. Stored results of runs that are not in RUNS are kept.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from report_blocks import BLOCKS, PICTURES, Make, Report
from report_studies import STUDIES, measure_study, with_stored

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.errors import UserError
from hypernet_jax.evaluation.report import finite
from hypernet_jax.files import write_atomically
from hypernet_jax.weights import load_weights

EXPERIMENTS = Path(__file__).resolve().parent
REPOSITORY = EXPERIMENTS.parent
DOCS = REPOSITORY / "docs"
RESULTS = EXPERIMENTS / "results"


def load(task: str) -> Report:
    """Loads all stored results of a task."""
    paths = sorted(RESULTS.glob(f"{task}-*.json"))
    results = {path.stem.removeprefix(f"{task}-"): json.loads(path.read_text()) for path in paths}
    published = json.loads((RESULTS / "published.json").read_text())
    return Report(task, results, published.get(task, {}))


def filled(page: str, blocks: dict[str, str]) -> str:
    """Fills the blocks of a page between their marks."""
    for name, text in blocks.items():
        head, mark, rest = page.partition(f"<!-- {name} -->\n")
        if not mark:
            continue
        _, end, tail = rest.partition("<!-- end -->")
        if not end:
            raise UserError(f"The block {name} has no <!-- end -->; add it.")
        page = f"{head}{mark}\n{text}\n{end}{tail}"
    return page


def made(report: Report, makers: dict[str, tuple[tuple[str, ...], Make]]) -> dict[str, Any]:
    """Everything that can be made from a task's results, by name."""
    return {
        name: make(report)
        for name, (needs, make) in makers.items()
        if all(study in report.results for study in needs)
    }


def pages(report: Report) -> dict[Path, str]:
    """The updated texts of all files with a task's results."""
    blocks = made(report, BLOCKS)
    card = REPOSITORY / "hypernet_jax" / "pretrained" / f"{report.task}.md"
    readme = REPOSITORY / "README.md"
    in_readme = {f"{report.task} {name}": text for name, text in blocks.items()}
    return {
        DOCS / STUDIES[report.task].page: filled(
            (DOCS / STUDIES[report.task].page).read_text(), blocks
        ),
        card: filled(card.read_text(), blocks),
        readme: filled(readme.read_text(), in_readme),
    }


def of_other_weights(report: Report) -> list[str]:
    """The studies that were measured with other weights than those that ship now."""
    model, theta = load_weights(report.task)
    shipped = model.fingerprint(theta)

    def weights(study: Any) -> set[str]:
        """Of a study, or of the several that it consists of."""
        if isinstance(study, dict) and "weights" in study:
            return {study["weights"]}
        parts = study.values() if isinstance(study, dict) else study
        held = (part for part in parts if isinstance(part, (dict, list)))
        return set().union(*map(weights, held))

    return [name for name, study in report.results.items() if weights(study) - {shipped}]


def write(task: str) -> None:
    """Draws the pictures and fills the pages."""
    report = load(task)
    if others := of_other_weights(report):
        print(f"Measured with other weights than those that ship: {', '.join(others)}.")
    contents = {
        DOCS / "images" / f"{task}-{name}.png": picture
        for name, picture in made(report, PICTURES).items()
    }
    contents |= {path: text.encode() for path, text in pages(report).items()}
    for path, content in contents.items():
        write_atomically(path, content, overwrite=True)
        print(f"wrote {path.relative_to(REPOSITORY)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=sorted(STUDIES))
    parser.add_argument("--measure", default="", help="studies to measure, separated by commas")
    parser.add_argument("--datasets", type=Path, help="folder of the test sets")
    parser.add_argument("--runs", type=Path, help="folder of the runs of configs/comparison.py")
    args = parser.parse_args()
    for study in filter(None, args.measure.split(",")):
        result = measure_study(study, args.task, datasets=args.datasets, runs=args.runs)
        result = with_stored(study, load(args.task).results.get(study), result)
        path = RESULTS / f"{args.task}-{study}.json"
        write_atomically(
            path,
            (json.dumps(finite(result), indent=1, allow_nan=False) + "\n").encode(),
            overwrite=True,
        )
        print(f"wrote {path.relative_to(REPOSITORY)}", flush=True)
    write(args.task)


if __name__ == "__main__":
    with exit_with_sentence():
        main()
