"""Hypothesis profiles for all tests."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes is the machine's affair.
settings.register_profile("everyday", deadline=None)
settings.load_profile("everyday")
settings.register_profile("fuzz", max_examples=5000, deadline=None)
