"""Fixtures for all tests of the file server."""

from tests.files.proxy_harness import start_proxy_fixture, upstream_fixture  # noqa: F401
from tests.files.uploads_harness import client_fixture, serve_fixture, store_fixture  # noqa: F401
