"""The server of the page: local by default, with limits, and with files removed at the end."""

import contextlib
import errno
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from hypernet_jax.errors import UserError

__all__ = ["make_app", "serve_page", "sweep"]

# Uploads and results are deleted after an hour, and all of them at the end.
_KEPT_SECONDS = 3600.0
_SWEEP_SECONDS = 300.0
_EVERYWHERE = ("", "0.0.0.0", "::")
_HERE = ("localhost", "127.0.0.1", "::1")


# What gradio has no words for, and says to screen readers when an event ends.
_STATES = {"common.complete": "Ready", "common.error": "Error"}


def sweep(folder: Path, older_than: float) -> None:
    """Deletes files unused for a time, and the empty folders that they leave.

    Args:
      folder: what is in it is swept; the folders directly in it stay.
      older_than: seconds since a file was used, or a folder changed; `Studio` touches the files
        that it reads.
    """
    old_files: list[Path] = []
    old_folders: list[Path] = []
    # All ages are read first, because deleting a file changes its folder.
    for name, folders, files in os.walk(folder):
        here = Path(name)
        old_files += [here / each for each in files if _is_older(here / each, older_than)]
        if here != folder:
            old_folders += [here / each for each in folders if _is_older(here / each, older_than)]
    for path in old_files:
        # Others may delete it, too.
        with contextlib.suppress(OSError):
            path.unlink()
    # Inner folders come after outer ones. A folder that is not empty stays.
    for path in reversed(old_folders):
        with contextlib.suppress(OSError):
            path.rmdir()


def _is_older(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime > seconds
    except OSError:
        return False


def _sweep_for_ever(folder: Path) -> None:
    while folder.exists():
        time.sleep(_SWEEP_SECONDS)
        sweep(folder, _KEPT_SECONDS)


def make_app(
    folder: Path,
    *,
    limit: float,
    max_upload: float,
    queue: int,
    names: frozenset[str] | None = None,
    studio=None,
):
    """The web application.

    Args:
      folder: for uploads and results; the caller deletes it.
      limit: the largest photograph and enlargement, in megapixels.
      max_upload: the largest file, in megabytes.
      queue: the largest number of waiting requests.
      names: hosts that the page answers to; None for all.
      studio: restores photographs; None: with the shipped weights.
    """
    # Read by gradio on import: no telemetry, and no files outside the folder.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    try:
        import gradio as gr
    except ImportError:
        raise UserError(
            "The page needs gradio, which is not installed; run pip install 'hypernet-jax[serve]'."
        ) from None
    from fastapi import FastAPI

    from hypernet_jax.serve.middleware import NothingFromOutside, OwnRequests
    from hypernet_jax.serve.page import CSS, make_page
    from hypernet_jax.serve.studio import Studio

    results = folder / "results"
    page = make_page(studio or Studio(limit=limit), results)
    page.queue(max_size=queue, default_concurrency_limit=2, api_open=False)
    # Gradio checks that files were uploaded only if this is set, and `mount_gradio_app` does not
    # set it. `OwnRequests` checks too.
    page.has_launched = True
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(NothingFromOutside)
    most = int(1e6 * max_upload)
    app.add_middleware(OwnRequests, folder=folder, names=names, max_upload=most)
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        max_file_size=most,
        # Not uploads, which gradio then sends as downloads: an HTML file would run in the page.
        allowed_paths=[str(results)],
        css=CSS,
        i18n=gr.I18n(en=_STATES),
        theme=_theme(),
        ssr_mode=False,
        footer_links=[],
        show_error=True,
    )


def _theme():
    """Gradio's plain theme with the contrast of WCAG 2.2 AA, and the system's fonts."""
    import gradio as gr

    return gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]).set(
        body_text_color_subdued="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def serve_page(
    *,
    host: str,
    port: int,
    limit: float,
    max_upload: float,
    queue: int,
    allowed_hosts: Sequence[str] = (),
) -> None:
    """Serves the page until Ctrl-C, SIGTERM or the end of its terminal.

    Args:
      host: name or address to serve at.
      port: 0 for any free port.
      limit, max_upload, queue: as in `make_app`.
      allowed_hosts: further names that the page answers to.
    """
    _check_limits(max_upload=max_upload, limit=limit, queue=queue)
    if not 0 <= port <= 65535:
        raise UserError(
            f"The port {port} is out of range; give one up to 65535, or 0 for any free one."
        )
    from hypernet_jax.serve.studio import Studio

    _end_on_signals()
    studio = Studio(limit=limit)
    with tempfile.TemporaryDirectory(prefix="hypernet_jax_page_") as name:
        folder = Path(name)
        app = make_app(
            folder,
            limit=limit,
            max_upload=max_upload,
            queue=queue,
            names=_names(host, allowed_hosts),
            studio=studio,
        )
        import uvicorn

        threading.Thread(target=_sweep_for_ever, args=(folder,), daemon=True).start()
        port = _free_port(host, port)
        shown = f"[{host}]" if ":" in host else host
        print(f"Open http://{shown}:{port}/ in a browser; Ctrl-C stops the server.", flush=True)
        try:
            uvicorn.run(
                app, host=host, port=port, log_level="critical", timeout_graceful_shutdown=2
            )
        finally:
            # A job that still runs would make the folder again after it is deleted.
            studio.close()


def _end_on_signals() -> None:
    """Makes signals that end the program run its cleanup, so that its folder is removed."""

    def stop(number, frame):
        del number, frame
        sys.exit(0)

    # Uvicorn raises it again after its shutdown.
    signal.signal(signal.SIGTERM, stop)
    hangup = getattr(signal, "SIGHUP", None)
    # Under nohup it stays ignored.
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signal.signal(hangup, lambda *_: signal.raise_signal(signal.SIGTERM))


def _names(host: str, allowed: Sequence[str]) -> frozenset[str] | None:
    """Hosts that the page answers to; None for all."""
    if host in _EVERYWHERE and not allowed:
        return None
    return frozenset(name.lower().strip("[]") for name in (*_HERE, host, *allowed))


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0; the `UserError` says whether host or port is at fault."""
    served = f"The page cannot be served at {host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
            return trial.getsockname()[1]
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        unavailable = getattr(error, "errno", None) == errno.EADDRNOTAVAIL
        no_host = unavailable or isinstance(error, socket.gaierror)
        other = "--host, such as 127.0.0.1" if no_host else "--port"
        raise UserError(f"{served} ({reason}); choose another {other}.") from None


def _check_limits(**limits: float) -> None:
    for name, value in limits.items():
        if not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} is {value:g}; give a number above 0.")
