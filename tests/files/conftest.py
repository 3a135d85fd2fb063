"""Fixtures for all tests of the file server."""

from tests.files.uploads_harness import client_fixture, serve_fixture, store_fixture  # noqa: F401
