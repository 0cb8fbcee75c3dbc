"""Bring the machine from what stands to what is wanted, and back."""
