"""Shell completions and the container image."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from hypernet_jax.cli.main import main

from .commands import refuse

REPOSITORY = Path(__file__).parent.parent


def completions(shell, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh", "fish", "powershell"])
def test_every_shell_gets_all_commands(shell, capsys):
    text = completions(shell, capsys)
    assert all(word in text for word in ("restore", "estimate", "self-ensemble", "dejpeg"))


def test_completions_of_another_shell(capsys):
    assert "choose one of bash, zsh" in refuse(capsys, "--print-completion", "cmd")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path, capsys):
    (tmp_path / "completions").write_text(completions("bash", capsys))
    (tmp_path / "photo.jpg").touch()
    script = """
        source ./completions
        try() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _shtab_hypernet_jax "$1" "${COMP_WORDS[COMP_CWORD]}" ""
            echo "${COMPREPLY[*]}"
        }
        try hypernet-jax re
        try hypernet-jax restore --ta
        try hypernet-jax restore --task den
        try hypernet-jax restore pho
        try hypernet-jax export --format st
    """
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    found = done.stdout.split("\n")
    assert found[:5] == ["restore", "--task", "denoise", "photo.jpg", "stablehlo"]


def instructions():
    lines = (REPOSITORY / "Dockerfile").read_text().splitlines()
    return [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]


def test_the_image_copies_what_there_is():
    steps = instructions()
    assert steps[0][0] == "FROM" and dict(steps)["ENTRYPOINT"] == '["hypernet-jax"]'
    assert json.loads(dict(steps)["CMD"]) == ["--help"]
    let_in = (REPOSITORY / ".dockerignore").read_text().split()
    for name, rest in steps:
        for source in rest.split()[:-1] if name == "COPY" else ():
            assert (REPOSITORY / source).exists(), source
            assert f"!{Path(source).parts[0]}" in let_in, source
    asked = dict(steps)["RUN"].partition("[")[2].partition("]")[0].split(",")
    text = (REPOSITORY / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in text for extra in asked)


def docker_runs():
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not docker_runs(), reason="Docker does not run here")
def test_the_image_is_built():
    subprocess.run(["docker", "build", "--check", str(REPOSITORY)], check=True)
