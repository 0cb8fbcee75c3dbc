"""The configuration file: TOML text in, ``model.Gateway`` or every mistake with its line out."""

from pointsman.config.errors import ConfigError, Problem
from pointsman.config.loading import Loaded, load, parse
from pointsman.config.schema import json_schema

__all__ = ["ConfigError", "Loaded", "Problem", "json_schema", "load", "parse"]
