"""Settings that all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No deadline: under the sanitizers, and while two test runs share a machine, time says nothing. `derandomize` keeps a
# run the same as the one before it; `make test-long` looks further.
settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", parent=settings.get_profile("default"), derandomize=False, max_examples=2000)
settings.load_profile(os.environ.get("FLATSTREAM_HYPOTHESIS", "default"))


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Has the interpreter switch threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
