"""The JSON Schema of the configuration file."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from pointsman.config.document import Document


class _TomlSchema(GenerateJsonSchema):
    """JSON Schema of what a TOML file can say: TOML has no null."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        inner = self.generate_inner(schema["schema"])
        # A reference alone would lose the key's own description.
        return {"allOf": [inner]} if "$ref" in inner else inner

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the configuration file, for editors that complete and check TOML."""
    schema = Document.model_json_schema(schema_generator=_TomlSchema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "examples": [EXAMPLE]}


EXAMPLE: dict[str, Any] = {
    "gateway": {"name": "edge-1", "hash_seed": "1234abcd"},
    "service": [
        {
            "name": "coaps",
            "protocol": "dtls",
            "listen": ["192.0.2.10:5684", {"address": "[2001:db8::10]:5684", "interface": "wan0"}],
            "connection_id": {"offset": 0, "bits": 8, "length": 6},
            "node": [
                {"name": "n1", "id": 1, "address": ["10.0.0.11", "fd00::11"]},
                {"name": "n2", "id": 2, "address": ["10.0.0.12", "fd00::12"]},
            ],
        }
    ],
}
