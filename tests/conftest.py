"""Settings of every test run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("aimass", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aimass")
