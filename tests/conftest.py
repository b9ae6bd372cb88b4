"""Settings of every test run."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings
from scripts.benches.buckets import KEYS, buckets, make_bucket

import aimass.proto.grpc_env  # noqa: F401  (flwr, which some tests import first, loads grpc)

settings.register_profile("aimass", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aimass")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logged may hold lone surrogates, which no process could send to the one that prints it."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of an S3 server with the bucket `tests`."""
    with buckets() as endpoint:
        make_bucket(endpoint, "tests")
        yield endpoint


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials for it in the environment."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
