"""Middleware of the page: no resources from other sites, no requests by them, and one language."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["NothingFromOutside", "OwnRequests"]

# Gradio's page links to fonts and a script on other sites: the links are removed, and
# a policy keeps the browser from loading anything from other sites.
_OUTSIDE = re.compile(rb"<link[^>]*https?://[^>]*>|<script[^>]*src=\"https?://[^>]*></script>")
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)
# The page's words are English, so gradio's are, too, and screen readers pronounce them so. What
# gradio itself adds to the head comes after it has chosen its language.
_ENGLISH = b"""<head><script>
Object.defineProperty(navigator, "language", {get: () => "en"});
Object.defineProperty(navigator, "languages", {get: () => ["en"]});
</script>"""
_SAFE = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
)
# Bytes; requests other than uploads hold only a level, a name and similar.
_LARGEST_REQUEST = 1_000_000
_UPLOAD = "/gradio_api/upload"
# Bytes of an upload in addition to its file.
_FRAME = 65_536
# Largest uploads that must fit on the disk for another to be accepted.
_SPARE = 4


class NothingFromOutside:
    """ASGI middleware: a content security policy, no links to other sites, and words in English."""

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
                headers = [*message["headers"], *_SAFE]
                message = message | {"headers": headers}
                if any(k == b"content-type" and v.startswith(b"text/html") for k, v in headers):
                    start.update(message)
                    return
            elif start:
                body.extend(message.get("body", b""))
                if message.get("more_body"):
                    return
                page = _OUTSIDE.sub(b"", bytes(body)).replace(b"<head>", _ENGLISH, 1)
                start["headers"] = [
                    (key, value) for key, value in start["headers"] if key != b"content-length"
                ] + [(b"content-length", str(len(page)).encode())]
                await send(dict(start))
                message = {"type": "http.response.body", "body": page}
            await send(message)

        await self._app(scope, receive, cleaned)


class _RefusedError(Exception):
    """A refused request, with HTTP status and sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class OwnRequests:
    """ASGI middleware: refuses requests that the page itself never makes.

    Another web site that the visitor has open can send requests here through the visitor's
    browser, under its own name (a foreign Origin), or under a name that it points at this machine
    (a foreign Host: DNS rebinding). Also, a client can name any file of this machine, or a URL, as
    its uploaded photograph: gradio does not check that for a mounted app.

    Args:
      app: the application to guard.
      folder: the folder that requests may name files in.
      names: hosts that the page answers to; None for all.
      max_upload: the largest upload, in bytes.
    """

    def __init__(self, app, *, folder: Path, names: frozenset[str] | None, max_upload: int):
        self._app = app
        self._folder = folder.resolve()
        self._names = names
        self._max_upload = max_upload

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # the page uses no other type
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {key: value.decode("latin-1") for key, value in scope["headers"]}
        try:
            self._check_site(headers.get(b"host", ""), headers.get(b"origin"))
            if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
                if scope["path"].rstrip("/") == _UPLOAD:
                    # Chunks would come without their length.
                    chunked = b"transfer-encoding" in headers
                    self._check_upload("" if chunked else headers.get(b"content-length", ""))
                else:
                    receive = await self._checked_body(receive)
        except _RefusedError as refused:
            content = json.dumps({"detail": str(refused)}).encode()
            answer = [(b"content-type", b"application/json"), (b"connection", b"close")]
            start = {"type": "http.response.start", "status": refused.status, "headers": answer}
            await send(start)
            await send({"type": "http.response.body", "body": content})
            return
        await self._app(scope, receive, send)

    def _check_site(self, host: str, origin: str | None) -> None:
        try:
            name, site = urlsplit(f"//{host}").hostname, urlsplit(origin or "").netloc.lower()
        except ValueError:
            raise _RefusedError(400, "The request's Host or Origin is not valid.") from None
        if self._names is not None and name not in self._names:
            raise _RefusedError(
                403,
                f"The page does not answer to {host!r}; allow it with --allow-host.",
            )
        if origin is not None and site != host.lower():
            raise _RefusedError(
                403,
                f"The page takes no requests from {origin!r}; a proxy in front of it must forward "
                "the visitor's Host.",
            )

    def _check_upload(self, length: str) -> None:
        if not (length.isascii() and length.isdecimal()):
            raise _RefusedError(411, "An upload must give its length.")
        if int(length) > self._max_upload + _FRAME:
            raise _RefusedError(
                413, f"The upload is larger than {self._max_upload / 1e6:g} megabytes."
            )
        if shutil.disk_usage(self._folder).free < _SPARE * self._max_upload:
            raise _RefusedError(507, "The server's disk is almost full; try again in an hour.")

    async def _checked_body(self, receive):
        """Reads and checks the body; returns a `receive` that replays it."""
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body.extend(message.get("body", b""))
            more = message.get("more_body", False)
            if len(body) > _LARGEST_REQUEST:
                raise _RefusedError(
                    413, "The request is too large; photographs are uploaded first."
                )
        self._check_files(bytes(body))
        waiting = [{"type": "http.request", "body": bytes(body), "more_body": False}]

        async def again():
            return waiting.pop() if waiting else await receive()

        return again

    def _check_files(self, body: bytes) -> None:
        try:
            content = json.loads(body) if body else None
        except (ValueError, RecursionError):
            raise _RefusedError(400, "The request is not valid JSON.") from None
        for path in _paths(content):
            try:
                inside = Path(path).resolve().is_relative_to(self._folder)
            except (OSError, RuntimeError, ValueError):  # not a valid path
                inside = False
            if not inside:
                raise _RefusedError(403, "The request names a file that was not uploaded.")


def _paths(content: Any) -> Iterator[str]:
    """Every "path" in a request, at any depth; gradio takes files from these."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            if isinstance(part.get("path"), str):
                yield part["path"]
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
