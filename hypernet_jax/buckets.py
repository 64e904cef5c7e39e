"""What buckets need: the packages of each scheme, patience, and a sentence for each failure.

gs:// and s3:// are read and written by fsspec's packages, through etils.epath and without
TensorFlow. Both repeat a request that failed for a moment; `patiently` repeats the whole
operation after them, with growing pauses.
"""

import errno
import importlib.util
import logging
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from hypernet_jax.errors import UserError

__all__ = ["SCHEMES", "patiently", "prepare_scheme", "remove_file", "send_file"]

T = TypeVar("T")

# The package that reads and writes a scheme, its own name of the scheme, and our extra.
SCHEMES = {"gs": ("gcsfs", "gcs", "gcs"), "s3": ("s3fs", "s3", "s3")}

# Seconds before each further attempt.
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
# Seconds without a byte of an answer.
_LONGEST_WAIT = 30
# How many of the pauses are taken.
_ATTEMPTS = "HYPERNET_JAX_STORE_RETRIES"

# Words of errors, in lower case: what stores say has no common form.
_FULL = ("quotaexceeded", "quota has been exceeded", "storagefull", "insufficient storage", "(507)")
_CLOCK = (
    "requesttimetooskewed",
    "request time and the current time",
    "iat and exp values",
    "token used too early",
)
_REFUSED = (
    "credentials",
    "forbidden",
    "accessdenied",
    "access denied",
    "does not have storage.",
    "unauthorized",
)
_BUSY = ("slowdown", "(429)", "ratelimitexceeded", "timed out", "timeout", "temporarily")
_UNREACHED = ("Timeout", "Connection", "Endpoint", "ServerDisconnected", "ClientPayload", "Proxy")
_BUSY_ERRORS = {
    errno.EBUSY,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    getattr(errno, "EREMOTEIO", errno.EIO + 10_000),  # Linux only; s3fs' word for status 500
}


def prepare_scheme(scheme: str) -> None:
    """Makes etils.epath ready for a scheme of `SCHEMES`.

    Raises:
      UserError: if its package is not installed.
    """
    package, name, extra = SCHEMES[scheme]
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"Addresses {scheme}:// need the package {package}; "
            f"install it with: pip install 'hypernet-jax[{extra}]'."
        )
    # Where TensorFlow happens to be installed, epath would take its file system.
    os.environ.setdefault("EPATH_USE_TF", "0")
    # Zonal buckets, which gcsfs asks about over another protocol before all else.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # gcsfs logs the traceback of what it raises, which ends in a sentence here.
    log = logging.getLogger(package)
    if log.level == logging.NOTSET:
        log.setLevel(logging.CRITICAL)
    import fsspec.config

    options = fsspec.config.conf.setdefault(name, {})
    # Others write there too: what was listed once is listed again.
    options.setdefault("use_listings_cache", False)
    if scheme == "gs":
        # Seconds; without them a store that never answers is waited for for ever.
        import aiohttp

        wait = aiohttp.ClientTimeout(total=600, sock_connect=15, sock_read=_LONGEST_WAIT)
        options.setdefault("requests_timeout", wait)


def patiently(action: Callable[[], T], address: object) -> T:
    """What the action returns; repeated while the store is out of reach or busy.

    Args:
      action: reads or writes one thing; doing it twice must be as good as once.
      address: for messages.

    Raises:
      UserError: a sentence for every failure: no access, no bucket, no room, no connection.
    """
    retries = os.environ.get(_ATTEMPTS, "")
    pauses = _PAUSES[: int(retries)] if retries.isdigit() else _PAUSES
    for pause in (*pauses, None):
        try:
            return action()
        except UserError:
            raise
        # Each store's package has exceptions of its own, some of them no OSError.
        except Exception as error:
            kind = _kind(error)
            if kind != "busy" or pause is None:
                raise UserError(_sentence(kind, error, address)) from None
        time.sleep(pause)
    raise AssertionError


def send_file(path: Any, content: bytes) -> None:
    """Writes a file of a store, over one that is there; raises `UserError`."""
    patiently(lambda: path.write_bytes(content), path)


def remove_file(path: Any) -> None:
    """Removes a file of a store if it is there; raises `UserError`."""
    patiently(lambda: path.unlink(missing_ok=True), path)


def _kind(error: Exception) -> str:
    """full, clock, refused, missing, busy or other."""
    text, code = str(error).lower(), str(getattr(error, "code", None))
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or code == "507" or _any(_FULL, text):
        return "full"
    if _any(_CLOCK, text):
        return "clock"
    if code == "429" or _any(_BUSY, text):
        return "busy"
    if isinstance(error, PermissionError) or code in ("401", "403") or _any(_REFUSED, text):
        return "refused"
    if isinstance(error, FileNotFoundError) or code == "404":
        return "missing"
    names = [base.__name__ for base in type(error).__mro__]
    if (
        isinstance(error, (ConnectionError, TimeoutError))
        or number in _BUSY_ERRORS
        or code in ("408", "500", "502", "503", "504")
        or any(word in name for name in names for word in _UNREACHED)
    ):
        return "busy"
    return "other"


def _any(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)


def _sentence(kind: str, error: Exception, address: object) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = lines[-1][:200].rstrip(".")
    if kind == "full":
        return f"The store of {address} has no room or quota left ({reason}); make room there."
    if kind == "clock":
        return (
            f"The store refuses {address} because this machine's clock is wrong ({reason}); set "
            "the clock and start again."
        )
    if kind == "refused":
        return (
            f"The store refuses {address} ({reason}); set the credentials of an account that may "
            "read, write and delete there."
        )
    if kind == "missing":
        return (
            f"There is no bucket or file {address} ({reason}); make the bucket, or check the name."
        )
    if kind == "busy":
        return (
            f"The store of {address} could not be reached after several attempts "
            f"({type(error).__name__}: {reason}); check the connection and start again."
        )
    return f"{address} could not be read or written ({type(error).__name__}: {reason})."
