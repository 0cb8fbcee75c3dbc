"""Checks: whether nodes answer, told without touching the data plane."""
