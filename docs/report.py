"""Writes the figures into docs/denoising.md, dejpeg.md and super_resolution.md.

    python docs/report.py denoise
    python docs/report.py denoise --measure figures,requested,blind --datasets DIR
    python docs/report.py denoise --measure comparison --datasets DIR --runs RUNS

The first form needs nothing but the repository: it draws docs/images/ and fills the blocks
of the page (between `<!-- NAME -->` and `<!-- end -->`) from docs/results/ and the shipped
weights. `--measure` makes docs/results/ anew. DIR holds CBSD68, Kodak24, LIVE1, Set5 and Set14 as
folders of images; RUNS holds, as TASK-METHOD, the workdirs of configs/comparison.py.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from report_blocks import BLOCKS, PICTURES
from report_studies import STUDIES, measure_study

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.errors import UserError
from hypernet_jax.files import write_atomically

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"


def load(task: str) -> dict[str, Any]:
    """All results of a task by study."""
    paths = sorted(RESULTS.glob(f"{task}-*.json"))
    return {path.stem.removeprefix(f"{task}-"): json.loads(path.read_text()) for path in paths}


def filled(page: str, blocks: dict[str, str]) -> str:
    """The page with the text of every block between its marks."""
    for name, text in blocks.items():
        head, mark, rest = page.partition(f"<!-- {name} -->\n")
        if not mark:
            continue
        _, end, tail = rest.partition("<!-- end -->")
        if not end:
            raise UserError(f"The block {name} has no <!-- end -->.")
        page = f"{head}{mark}\n{text}\n{end}{tail}"
    return page


def blocks(task: str) -> dict[str, str]:
    """The text of every block that the results of a task suffice for."""
    results = load(task)
    published = json.loads((RESULTS / "published.json").read_text())
    return {
        name: make(task, results, published.get(task, {}))
        for name, (needs, make) in BLOCKS.items()
        if all(study in results for study in needs)
    }


def write(task: str) -> None:
    """Draws the pictures and fills the page."""
    results = load(task)
    published = json.loads((RESULTS / "published.json").read_text())
    for name, (needs, draw) in PICTURES.items():
        if all(study in results for study in needs):
            picture = draw(task, results, published.get(task, {}))
            path = DOCS / "images" / f"{task}-{name}.png"
            write_atomically(path, picture, overwrite=True)
            print(f"wrote {path.relative_to(DOCS.parent)}")
    page = DOCS / STUDIES[task].page
    write_atomically(page, filled(page.read_text(), blocks(task)).encode(), overwrite=True)
    print(f"wrote {page.relative_to(DOCS.parent)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=sorted(STUDIES))
    parser.add_argument("--measure", default="", help="studies to measure, separated by commas")
    parser.add_argument("--datasets", type=Path, help="folder of the test sets")
    parser.add_argument("--runs", type=Path, help="folder of the runs of configs/comparison.py")
    parser.add_argument("--weights", help="other weights than the shipped ones")
    args = parser.parse_args()
    for study in filter(None, args.measure.split(",")):
        result = measure_study(
            study, args.task, weights=args.weights, datasets=args.datasets, runs=args.runs
        )
        path = RESULTS / f"{args.task}-{study}.json"
        write_atomically(path, (json.dumps(result, indent=1) + "\n").encode(), overwrite=True)
        print(f"wrote {path.relative_to(DOCS.parent)}", flush=True)
    write(args.task)


if __name__ == "__main__":
    with exit_with_sentence():
        main()
