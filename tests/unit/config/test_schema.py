"""The JSON Schema that editors complete by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pointsman.config import json_schema
from pointsman.config.document import Document
from pointsman.config.schema import EXAMPLE


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
        for value in schema.values():
            yield from properties(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from properties(value)


def test_it_is_json_schema_with_title_and_example() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "Pointsman gateway"
    assert schema["required"] == ["gateway"]
    assert json.loads(json.dumps(schema)) == schema == json_schema()


def test_its_example_is_a_document() -> None:
    assert json_schema()["examples"] == [EXAMPLE]
    assert Document.model_validate(EXAMPLE)


def test_every_key_is_described() -> None:
    schema = json_schema()
    keys = dict(properties({"root": schema["properties"], **schema}))
    assert len(keys) >= 25
    assert [name for name, one in keys.items() if not one.get("description")] == []


def test_no_key_may_be_null_as_toml_has_none() -> None:
    assert '"null"' not in json.dumps(json_schema())
    assert '"default": null' not in json.dumps(json_schema())


def test_every_table_refuses_unknown_keys() -> None:
    tables = [json_schema(), *json_schema()["$defs"].values()]
    for table in tables:
        for form in table.get("anyOf", [table]):
            assert form.get("type") != "object" or form["additionalProperties"] is False


def test_durations_are_strings_of_a_pattern_or_seconds() -> None:
    text, seconds = json_schema()["$defs"]["ServiceTable"]["properties"]["flow_timeout"]["anyOf"]
    assert text == {"type": "string", "pattern": "^[1-9][0-9]*[smhd]$"}
    assert seconds == {"type": "integer", "minimum": 1, "maximum": 86400}


def test_choices_and_defaults_are_told() -> None:
    service = json_schema()["$defs"]["ServiceTable"]["properties"]
    assert service["protocol"]["enum"] == ["dtls", "udp", "tcp"]
    assert service["cid_unknown"]["enum"] == ["drop", "balance"]
    assert service["cid_unknown"]["default"] == "drop"
    assert service["handshake_timeout"]["default"] == "120s"
    assert "default" not in service["flow_table_size"]  # it depends on the data plane
    gateway = json_schema()["$defs"]["GatewayTable"]["properties"]
    assert gateway["dataplane"]["enum"] == ["auto", "nftables", "xdp"]
    assert gateway["dataplane"]["default"] == "auto"
    assert gateway["flow_memory"]["default"] == 1_000_000


def test_listeners_and_connection_ids_have_a_short_form() -> None:
    for name in ("ListenerTable", "ConnectionIdTable"):
        assert [form["type"] for form in json_schema()["$defs"][name]["anyOf"]] == ["string", "object"]
