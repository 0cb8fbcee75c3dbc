"""A file without mistakes, and the two things that tests do with it: change it, and read what is wrong then.

Addresses: 192.0.2.x and 2001:db8::x are listeners, 10.0.0.x and fd00::x nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pointsman.config import ConfigError, parse

GOOD = """\
[gateway]
name = "edge-1"
hash_seed = 1

[[service]]
name = "coaps"
protocol = "dtls"
listen = ["192.0.2.10:5684", "[2001:db8::10]:5684"]
connection_id = { offset = 0, bits = 8, length = 6 }
  [[service.node]]
  name = "n1"
  id = 1
  address = ["10.0.0.11", "fd00::11"]
  [[service.node]]
  name = "n2"
  id = 2
  address = ["10.0.0.12", "fd00::12"]

[[service]]
name = "coap"
protocol = "udp"
listen = ["192.0.2.10:5683"]
  [[service.node]]
  name = "n1"
  address = "10.0.0.11"
  [[service.node]]
  name = "n2"
  address = "10.0.0.12"
"""


@pytest.fixture
def good() -> str:
    return GOOD


@pytest.fixture
def mistakes() -> Callable[[str], list[str]]:
    """Every line that the text is refused with."""

    def refused(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            parse(text, "g")
        return str(caught.value).splitlines()

    return refused


@pytest.fixture
def changed() -> Callable[..., str]:
    """The good file with the first of each old text replaced by the new one."""

    def change(*changes: tuple[str, str]) -> str:
        text = GOOD
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new, 1)
        return text

    return change
