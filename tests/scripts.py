"""Runs `train.py` and `evaluate.py` in forks of one process that has imported what they need.

A process of their own each would import JAX and the package for seconds before every mistake.
"""

import atexit
import functools
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["run_script"]

REPOSITORY = Path(__file__).parent.parent
SECONDS = 200
IMPORTED = (
    "hypernet_jax.cli.info",
    "hypernet_jax.evaluation.measure",
    "hypernet_jax.evaluation.others",
    "hypernet_jax.evaluation.pairs",
    "hypernet_jax.evaluation.report",
    "hypernet_jax.training.loop",
    "hypernet_jax.training.sweep",
    "ml_collections.config_flags",
)


def run_script(script, *arguments) -> subprocess.CompletedProcess:
    """Runs a script of the repository in the current folder, to its end.

    Its answer has the exit status and all output, as text. Where processes cannot be forked, it
    is a process of its own.
    """
    command = [str(REPOSITORY / script), *map(str, arguments)]
    if not hasattr(os, "fork"):
        command = [sys.executable, *command]
        return subprocess.run(command, capture_output=True, text=True, check=False)
    server = _server()
    request = {"command": command, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    print(json.dumps(request), file=server.stdin, flush=True)
    answer = server.stdout.readline()
    if not answer:
        _server.cache_clear()
        raise RuntimeError(f"The process that runs scripts ended with {server.wait()}.")
    status, output, errors = json.loads(answer)
    return subprocess.CompletedProcess(command, status, output, errors)


@functools.cache
def _server() -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    atexit.register(server.communicate)  # it ends with its input
    return server


def _answer(request: dict) -> list:
    """The exit status, the output and the errors of a command run in a fork."""
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,
        tempfile.TemporaryFile("w+", errors="replace") as errors,
    ):
        process = os.fork()
        if not process:
            signal.alarm(SECONDS)  # ends a script that hangs
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            os.chdir(request["folder"])
            os.environ.clear()
            os.environ.update(request["environment"])
            sys.argv = request["command"]
            runpy.run_path(sys.argv[0], run_name="__main__")
            sys.exit()
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        texts = []
        for file in (output, errors):
            file.seek(0)
            texts.append(file.read())
        return [status, *texts]


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    # No backend of JAX starts before a fork.
    for name in IMPORTED:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)
