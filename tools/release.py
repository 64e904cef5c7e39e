"""Builds the wheel and the source archive into dist/ and tries each in an empty environment.

    python tools/release.py --constraints constraints/3.12.txt

Needs the package `build`. A version without a section in CHANGELOG.md is refused, unless this is a
rehearsal.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DIST = REPOSITORY / "dist"


def version() -> str:
    """The version of the checkout."""
    text = (REPOSITORY / "hypernet_jax" / "version.py").read_text()
    return re.search(r'__version__ = "(.+)"', text)[1]


def has_section(changelog: str, of: str) -> bool:
    """Whether a changelog has a heading for a version, as in `## 1.2.0 - 2030-01-31`."""
    return re.search(rf"^## \[?{re.escape(of)}\b", changelog, re.MULTILINE) is not None


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    """Runs a command and shows it; a failure ends the release."""
    print("$", *command, flush=True)
    return subprocess.run([str(part) for part in command], check=True, text=True, **options)


def build() -> list[Path]:
    """The wheel and the source archive, made anew."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--outdir", DIST, REPOSITORY)
    return sorted(DIST.iterdir())


def try_out(artefact: Path, constraints: Path | None) -> None:
    """Installs an artefact into an empty environment, away from the checkout, and runs the demo."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(f"{folder}/venv", with_pip=True)
        scripts = Path(folder, "venv", "Scripts" if sys.platform == "win32" else "bin")
        constrained = () if constraints is None else ("-c", constraints.resolve())
        run(scripts / "python", "-m", "pip", "install", "--quiet", *constrained, artefact)
        command = scripts / "hypernet-jax"
        shown = run(command, "--version", cwd=folder, stdout=subprocess.PIPE).stdout.strip()
        if shown != f"hypernet-jax {version()}":
            sys.exit(f"{artefact.name} installs {shown}, not version {version()}.")
        run(command, "demo", "--output", f"{folder}/demo", cwd=folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--constraints", type=Path, help="pip constraints of the environments")
    parser.add_argument("--rehearsal", action="store_true", help="do not ask for a changelog entry")
    args = parser.parse_args()
    changelog = (REPOSITORY / "CHANGELOG.md").read_text()
    if not args.rehearsal and not has_section(changelog, version()):
        sys.exit(
            f"CHANGELOG.md has no section for version {version()}; add one, or pass --rehearsal."
        )
    artefacts = build()
    for artefact in artefacts:
        try_out(artefact, args.constraints)
    print("tried:", ", ".join(artefact.name for artefact in artefacts))


if __name__ == "__main__":
    main()
