"""The connection to a bucket: how it is opened, and what its refusals mean."""

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

SCHEMES = {"s3": "AWS_*", "gs": "GOOGLE_*", "az": "AZURE_*"}  # and the environment that configures them
Bucket = S3Store | GCSStore | AzureStore

_GONE = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")  # S3, Azure, Google
_REFUSED = (
    "401 Unauthorized",
    "403 Forbidden",
)  # obstore has errors of its own for these, but not when listing


def connect(url: str, retry_s: float) -> Bucket:
    """The bucket behind `url`, configured by the environment; nothing is sent yet.

    A request that fails for a reason that may pass is tried again for up to `retry_s`, below the five minutes for
    which its credentials hold. Plain http is used where the endpoint that was set says so, never otherwise.
    """
    # The default limit of 30 s counts the whole body, which is gigabytes here: stalls are what has to end.
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
            f"{url} cannot be used for artifacts ({_first_line(error)}): correct it, or the environment "
            f"({_environment(url)})"
        ) from error
    assert isinstance(store, Bucket)
    return store


@contextmanager
def answering(url: str, name: str = "") -> Iterator[None]:
    """Tell a missing object from a store that cannot be used, and say what to do about the latter.

    `FileNotFoundError` or `StorageUnavailable`; failed conditions pass as obstore's own errors.
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
    if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _says(error, _REFUSED):
        return f"refuses access: check the credentials ({_environment(url)}) and what they may do there"
    return (
        "does not answer as it should: check that it can be reached from here, and its endpoint, region and "
        f"credentials ({_environment(url)})"
    )


def bucket_is_missing(error: Exception) -> bool:
    return _says(error, _GONE)


def _says(error: Exception, signs: tuple[str, ...]) -> bool:
    return any(sign in str(error) for sign in signs)


def _environment(url: str) -> str:
    return SCHEMES[urlsplit(url).scheme]


def _first_line(error: Exception) -> str:
    """obstore appends pages of its insides."""
    return str(error).partition("\n")[0]
