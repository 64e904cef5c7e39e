"""Servers of buckets on this machine, behind a door that can fail as real ones do."""

import contextlib
import http.client
import http.server
import logging
import socket
import threading
import time

__all__ = ["Door", "gcs_server", "s3_server"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def s3_server():
    """The port of an S3 server with no buckets."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # every request, on standard error
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield server.get_host_and_port()[1]
    finally:
        server.stop()


@contextlib.contextmanager
def gcs_server(bucket: str):
    """The port of a Google Cloud Storage server with one bucket."""
    from gcp_storage_emulator.server import create_server

    port = _free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket=bucket)
    server.start()
    try:
        yield port
    finally:
        server.stop()


# What the door says of its own answer.
_OWN_HEADERS = ("connection", "content-length", "date", "server", "transfer-encoding")


class Door:
    """Passes requests on to a server; answers them itself where it is told to.

    Attributes:
      answer: called with method and path; (status, body) to answer with, seconds to be silent
        for before the connection is dropped, or None to pass the request on.
    """

    def __init__(self, server_port: int):
        door = self
        self.answer = lambda method, path: None

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def _handle(self):
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                answer = door.answer(self.command, self.path)
                if isinstance(answer, (int, float)):
                    time.sleep(answer)
                    self.close_connection = True
                    return
                headers = {}
                if answer is None:
                    passed = http.client.HTTPConnection("127.0.0.1", server_port)
                    passed.request(self.command, self.path, body, dict(self.headers))
                    reply = passed.getresponse()
                    answer, headers = (reply.status, reply.read()), dict(reply.getheaders())
                    passed.close()
                status, content = answer
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in _OWN_HEADERS:
                        self.send_header(name, value)
                if self.command == "HEAD" and "Content-Length" in headers:
                    self.send_header("Content-Length", headers["Content-Length"])
                else:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    with contextlib.suppress(BrokenPipeError):  # a client that was killed
                        self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = _handle  # noqa: N815

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Ends the thread."""
        self._server.shutdown()
        self._server.server_close()
