"""Connects to a bucket, and translates its errors."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from serve_app.errors import StorageUnavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

logger = logging.getLogger("ray.serve")

# By URL scheme, the environment variables that configure the store.
SCHEMES = {"s3": "AWS_*", "gs": "GOOGLE_*", "az": "AZURE_*"}
Bucket = S3Store | GCSStore | AzureStore

# Phrases in the errors of S3, Azure and Google.
_MISSING_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
# obstore has exceptions for these, but does not raise them when listing.
_ACCESS_DENIED = ("401 Unauthorized", "403 Forbidden")


def connect(url: str, retry_s: float) -> Bucket:
    """A client for the bucket at `url`, configured by the environment. Sends no request yet.

    Requests with a transient error are retried for up to `retry_s` seconds, less than the five minutes for which their
    credentials are valid. Plain http is used only if the configured endpoint says so.
    Raises `ValueError` if the URL or the environment is invalid.
    """
    # The default limit of 30 s covers the whole body, which is gigabytes here: `read_timeout` ends stalled transfers.
    client: ClientConfig = {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=5),
        "read_timeout": timedelta(seconds=60),
        "timeout": timedelta(hours=6),
    }
    retry: RetryConfig = {
        "max_retries": 10,
        "retry_timeout": timedelta(seconds=retry_s),
        "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=10), "base": 2},
    }
    try:
        store = from_url(url, client_options=client, retry_config=retry)
    except BaseError as error:
        raise ValueError(
            f"{url} cannot be used for artifacts ({_first_line(error)}): correct the URL or the environment "
            f"({_environment(url)})"
        ) from error
    assert isinstance(store, Bucket)
    return store


@contextmanager
def translated_errors(url: str, name: str = "") -> Iterator[None]:
    """Turns obstore's errors into `FileNotFoundError` (no such object) or `StorageUnavailable`.

    Failed conditions pass as obstore's own exceptions.
    """
    try:
        yield
    except (FileNotFoundError, BaseError) as error:
        remedy = _remedy(url, error)
        if remedy is None and isinstance(error, FileNotFoundError):
            raise FileNotFoundError(errno.ENOENT, "no such artifact", name) from error
        if remedy is None:
            raise
        logger.warning("the artifact store %s: %s", url, _first_line(error))
        raise StorageUnavailable(f"the artifact store {url} {remedy}") from error


def _remedy(url: str, error: FileNotFoundError | BaseError) -> str | None:
    if bucket_is_missing(error):
        return "does not exist: create the bucket, or correct the URL"
    if isinstance(error, FileNotFoundError | AlreadyExistsError | PreconditionError):
        return None
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _mentions(error, _ACCESS_DENIED):
        return f"refuses access: check the credentials ({_environment(url)}) and what they may do there"
    return (
        "does not respond correctly: check that it is reachable from this machine, and its endpoint, region and "
        f"credentials ({_environment(url)})"
    )


def bucket_is_missing(error: Exception) -> bool:
    return _mentions(error, _MISSING_BUCKET)


def _mentions(error: Exception, phrases: tuple[str, ...]) -> bool:
    return any(phrase in str(error) for phrase in phrases)


def _environment(url: str) -> str:
    return SCHEMES[urlsplit(url).scheme]


def _first_line(error: Exception) -> str:
    """The first line of a message: obstore appends pages of internals."""
    return str(error).partition("\n")[0]
