"""The daemon: it keeps the machine what configuration, checks and orders say."""
