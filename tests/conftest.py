"""Hypothesis profiles for all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("fuzz", max_examples=5000, deadline=None)
