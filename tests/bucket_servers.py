"""Servers of buckets on this machine, behind a door that can fail as real ones do."""

import contextlib
import http.client
import http.server
import logging
import sys
import threading
import time

import pytest

from hypernet_jax.buckets import prepare_scheme

__all__ = ["Door", "buckets_of_both_kinds", "forget_connections", "gcs_server", "s3_server"]


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

    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=bucket)
    server.start()
    try:
        yield server._api._httpd.server_port
    finally:
        server.stop()


class _Server(http.server.ThreadingHTTPServer):
    """Takes no notice of clients that leave in the middle of an answer, as real servers do."""

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


# What the door says of its own answer.
_OWN_HEADERS = ("connection", "content-length", "date", "server", "transfer-encoding")


class Door:
    """Passes requests on to a server; answers them itself on request.

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
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = _handle  # noqa: N815

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Ends the thread."""
        self._server.shutdown()
        self._server.server_close()


def forget_connections():
    """Makes the next address connect anew, with the environment as it then is."""
    import gcsfs
    import s3fs
    from etils.epath import backend

    backend.fsspec_backend._get_filesystem.cache_clear()
    s3fs.S3FileSystem.clear_instance_cache()
    gcsfs.GCSFileSystem.clear_instance_cache()


@contextlib.contextmanager
def buckets_of_both_kinds():
    """Doors to servers that hold a bucket named "bucket", by scheme; the environment says so."""
    import boto3
    import fsspec.config

    with pytest.MonkeyPatch.context() as patch, s3_server() as s3, gcs_server("bucket") as gcs:
        opened = {"s3": Door(s3), "gs": Door(gcs)}
        for name, value in {
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_ENDPOINT_URL": opened["s3"].url,
            "STORAGE_EMULATOR_HOST": opened["gs"].url,
            "FSSPEC_GCS": '{"token": "anon"}',
        }.items():
            patch.setenv(name, value)
        # Read from the environment by processes that start later, not by this one.
        patch.setitem(fsspec.config.conf, "gcs", {"token": "anon"})
        patch.setitem(fsspec.config.conf, "s3", {})
        for scheme in opened:
            prepare_scheme(scheme)
        forget_connections()
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield opened
        for door in opened.values():
            door.close()
    forget_connections()
