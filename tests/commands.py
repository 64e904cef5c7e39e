"""Runs commands in tests."""

import pytest

from hypernet_jax.cli.main import main


def refuse(capsys, *arguments) -> str:
    """Runs a command that must end with one sentence and status 2."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == 2
    message = capsys.readouterr().err.strip()
    assert message.startswith("error: ") and "\n" not in message and message.endswith("."), message
    return message
