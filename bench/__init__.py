"""The packet-rate benchmark: Pointsman beside what it replaces, on this machine, in one run."""
