"""Shared by all tests: what must not be skipped when the machine says that everything is there."""

from __future__ import annotations

import os
import random
from collections.abc import Generator

import hypothesis  # its plugin would import it late, beside running threads: Python 3.11 can crash there
import pluggy
import pytest

pytest_plugins = ["tests.artifacts.s3", "tests.databases"]

# An example may take any time: the machine may be busy.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")


# Told at the start, so that a run can be repeated.
SEED = os.environ.setdefault("SCHEMATHESIS_SEED", str(random.SystemRandom().randrange(2**32)))


def pytest_report_header() -> str:
    return f"SCHEMATHESIS_SEED={SEED}"


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pluggy.Result[pytest.TestReport]]:
    """With REQUIRE_ALL=1 a skip is a failure; only tests that need a GPU may be skipped."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("REQUIRE_ALL") == "1" and item.get_closest_marker("gpu") is None:
        report.outcome = "failed"
        report.longrepr = f"skipped although REQUIRE_ALL=1: {report.longrepr}"
