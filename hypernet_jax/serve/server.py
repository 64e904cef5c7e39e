"""The server of the page: on this machine only, with limits, and leaving nothing behind."""

import errno
import math
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from hypernet_jax.errors import UserError

__all__ = ["make_app", "serve_page", "sweep"]

# Uploads and results are deleted after an hour, and all of them at the end.
_KEPT_SECONDS = 3600.0
_SWEEP_SECONDS = 300.0
# Gradio's page asks for fonts and a script from elsewhere: these parts are taken
# out, and the browser is told to load nothing that is not from here.
_OUTSIDE = re.compile(rb"<link[^>]*https?://[^>]*>|<script[^>]*src=\"https?://[^>]*></script>")
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)


class _NothingFromOutside:
    """ASGI middleware: a content security policy, and pages without links to elsewhere."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start: dict = {}
        body = bytearray()

        async def cleaned(message):
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"content-security-policy", _POLICY.encode())]
                message = message | {"headers": headers}
                if any(k == b"content-type" and v.startswith(b"text/html") for k, v in headers):
                    start.update(message)
                    return
            elif start:
                body.extend(message.get("body", b""))
                if message.get("more_body"):
                    return
                page = _OUTSIDE.sub(b"", bytes(body))
                start["headers"] = [
                    (key, value) for key, value in start["headers"] if key != b"content-length"
                ] + [(b"content-length", str(len(page)).encode())]
                await send(dict(start))
                message = {"type": "http.response.body", "body": page}
            await send(message)

        await self._app(scope, receive, cleaned)


def sweep(folder: Path, older_than: float) -> None:
    """Deletes files unused for so many seconds; `Studio` marks those that it reads."""
    for path in folder.rglob("*"):
        try:
            if path.is_file() and time.time() - path.stat().st_mtime > older_than:
                path.unlink()
        except FileNotFoundError:
            pass


def _sweep_for_ever(folder: Path) -> None:
    while folder.exists():
        time.sleep(_SWEEP_SECONDS)
        sweep(folder, _KEPT_SECONDS)


def make_app(folder: Path, *, limit: float, max_upload: float, queue: int, studio=None):
    """The web application.

    Args:
      folder: for uploads and results; the caller deletes it.
      limit: megapixels of a photograph and of its enlargement.
      max_upload: megabytes of a file.
      queue: requests that may wait.
      studio: what restores; one of the shipped weights if None.
    """
    # Read by gradio when it is imported: no telephoning home, no files elsewhere.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "gradio")
    try:
        import gradio as gr
    except ImportError:
        raise UserError(
            "The page needs gradio, which is not installed; pip install 'hypernet-jax[serve]'."
        ) from None
    from fastapi import FastAPI

    from hypernet_jax.serve.page import CSS, make_page
    from hypernet_jax.serve.studio import Studio

    page = make_page(studio or Studio(limit=limit), folder / "results")
    page.queue(max_size=queue, default_concurrency_limit=2, api_open=False)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_NothingFromOutside)
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        max_file_size=int(1e6 * max_upload),
        allowed_paths=[str(folder)],
        css=CSS,
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
        ssr_mode=False,
        footer_links=[],
        show_error=True,
    )


def serve_page(*, host: str, port: int, limit: float, max_upload: float, queue: int) -> None:
    """Serves the page until it is told to stop by Ctrl-C or SIGTERM."""

    def stop(number, frame):
        del number, frame
        sys.exit(0)

    _check_limits(max_upload=max_upload, limit=limit, queue=queue)
    # Uvicorn raises the signal again once it is down; the folder must go even so.
    signal.signal(signal.SIGTERM, stop)
    with tempfile.TemporaryDirectory(prefix="hypernet_jax_page_") as name:
        folder = Path(name)
        app = make_app(folder, limit=limit, max_upload=max_upload, queue=queue)
        import uvicorn

        threading.Thread(target=_sweep_for_ever, args=(folder,), daemon=True).start()
        _check_free(host, port)
        shown = f"[{host}]" if ":" in host else host
        print(f"Open http://{shown}:{port}/ in a browser; Ctrl-C ends the page.", flush=True)
        uvicorn.run(app, host=host, port=port, log_level="critical", timeout_graceful_shutdown=2)


def _check_free(host: str, port: int) -> None:
    """Raises `UserError` where nothing can be served; tells host and port apart."""
    served = f"The page cannot be served at {host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            trial.listen()
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
