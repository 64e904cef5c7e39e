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
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


@pytest.mark.skipif(not docker_runs(), reason="Docker does not run here")
def test_docker_accepts_the_dockerfile():
    command = ["docker", "build", "--check", str(REPOSITORY)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    if "failed to resolve source metadata" in checked.stderr:
        pytest.skip("the registry of the base image does not answer")
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("name", ["slurm.sh", "tpu_vm.sh"])
def test_launch_scripts_parse(name):
    subprocess.run(["bash", "-n", REPOSITORY / "launch" / name], check=True)


def test_the_tpu_script_passes_its_options_on(tmp_path):
    """With a stand-in for gcloud that prints its arguments."""
    gcloud = tmp_path / "gcloud"
    gcloud.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    gcloud.chmod(0o755)
    script = REPOSITORY / "launch/tpu_vm.sh"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": "python3"}
    done = subprocess.run(
        [script, "tpu", "zone", "--config=c.py", "--workdir=a b"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    *arguments, command = done.stdout.splitlines()
    assert arguments[-3:] == ["tpu", "--zone=zone", "--worker=all"]
    assert command.endswith(r"train.py --coordinator=auto --config=c.py --workdir=a\ b")
    refused = subprocess.run([script], capture_output=True, text=True, env=environment, check=False)
    assert refused.returncode == 2 and refused.stderr.startswith("usage: ")


def test_the_jobset_starts_the_command_that_there_is():
    yaml = pytest.importorskip("yaml")
    jobset = yaml.safe_load((REPOSITORY / "launch/gke_jobset.yaml").read_text())
    (job,) = jobset["spec"]["replicatedJobs"]
    (container,) = job["template"]["spec"]["template"]["spec"]["containers"]
    script, *options = container["command"][1:]
    text = (REPOSITORY / script).read_text()
    names = {option.removeprefix("--").partition("=")[0] for option in options}
    assert names >= {"coordinator", "config", "workdir"}
    assert all(f'"{name}"' in text for name in names if "." not in name)
