"""`hypernet-jax serve`: serves the web page with sliders."""

import argparse
import warnings

from hypernet_jax.compilation_cache import keep_compiled_programs
from hypernet_jax.serve.server import serve_page

__all__ = ["serve"]


def serve(args: argparse.Namespace) -> int:
    """Serves until it is stopped."""
    warnings.filterwarnings("ignore", module="PIL")
    keep_compiled_programs()
    serve_page(
        host=args.host,
        port=args.port,
        limit=args.limit,
        max_upload=args.max_upload,
        queue=args.queue,
        allowed_hosts=args.allow_host,
    )
    return 0
