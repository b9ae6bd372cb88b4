"""Settings of every test run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

import aimass.proto.grpc_env  # noqa: F401  (flwr, which some tests import first, loads grpc)

settings.register_profile("aimass", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aimass")
