"""The manifest's schema, JSON Schema 2020-12: what a bundle of format 1 may say.

This module is its home, so that an installed edgec has it; `python -m edgec.bundle.schema` prints
docs/bundle-1.schema.json, and a test holds the two equal. The device's reader checks the same rules in plain
Python, and a test holds the two to the same verdicts; the schema is for other tools.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgec_runtime import dtypes
from edgec_runtime.bundle.layout import ALIGN, MAX_MEMBERS, MAX_NAME
from edgec_runtime.bundle.manifest import (
    HOOK_POINTS,
    MAX_HOOKS,
    MAX_INTEGER,
    MAX_PAYLOADS,
    MAX_RANK,
    MAX_TENSORS,
    SEALED,
)

Schema = dict[str, Any]

ID = "https://edgec.dev/schemas/bundle-1.schema.json"
_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 1024}
_LABEL: Schema = {"type": "string", "maxLength": 1024}
_COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_INTEGER}
_MEMBER: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": r"^[^/\\:][^\\:]*$"}
_SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TIME: Schema = {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"}
_HOOK: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"}


def _object(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": sorted(required),
        "additionalProperties": False,
    }


def _list(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, "maxItems": MAX_MEMBERS, **more}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


_DEFS: dict[str, Schema] = {
    "tensor": _object(
        {
            "name": _LABEL,
            "dtype": {"enum": sorted(dtypes.BITS)},
            "shape": _list({"anyOf": [_COUNT, _TEXT]}, maxItems=MAX_RANK, description="Sizes, or names where free."),
            "layout": _or_null(_TEXT),
        }
    ),
    "step": {"type": "object", "required": ["op"], "properties": {"op": _TEXT}},
    "member": _object(
        {
            "name": _MEMBER,
            "sha256": _SHA256,
            "size": {**_COUNT, "description": "Bytes."},
            "offset": {**_COUNT, "multipleOf": ALIGN, "description": "Bytes from the base of the member data."},
        }
    ),
    "accuracy": _object(
        {"metric": _TEXT, "value": {"type": "number"}, "float_value": {"type": "number"}, "n": _COUNT},
    ),
    "answers": _object(
        {
            "expected": {
                "enum": ["run", "float_reference"],
                "description": "The outputs it gave when it ran, or the float model's where it could not run here.",
            },
            "file": _MEMBER,
            "min_sqnr_db": {"type": "number", "description": "Least signal to quantization noise, in dB."},
        }
    ),
    "payload": _object(
        {
            "id": _TEXT,
            "engine": _TEXT,
            "engine_version": {**_TEXT, "description": "Version range (PEP 440) that can load it."},
            "proven_with": _or_null(_object({"package": _TEXT, "version": _TEXT})),
            "files": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 256,
                "propertyNames": _TEXT,
                "additionalProperties": _MEMBER,
                "description": "Role (model, weights, ...) to member.",
            },
            "board": _TEXT,
            "arch": {**_TEXT, "description": "As platform.machine() says."},
            "isa": _list(_TEXT, maxItems=256, description="CPU features, as Linux names them in /proc/cpuinfo."),
            "portable": {"type": "boolean", "description": "Other architectures may take it too."},
            "native_code": {"type": "boolean", "description": "Never loaded from an untrusted bundle."},
            "precision": _TEXT,
            "opset": _or_null(_COUNT),
            "memory": {**_or_null(_COUNT), "description": "Bytes: weights and the peak of live activations."},
            "options": {
                "type": "object",
                "maxProperties": 256,
                "propertyNames": _TEXT,
                "additionalProperties": {"type": ["string", "number", "boolean", "null"], "maxLength": 1024},
                "description": "The engine's settings for the board.",
            },
            "accuracy": _or_null(_ref("accuracy")),
            "golden": _or_null(_ref("answers")),
        },
        {
            "board_isa": _list(
                _TEXT,
                maxItems=256,
                description="Features of the board that it was made for: a CPU that has them all prefers it to "
                "payloads made for less.",
            ),
            "glibc": {
                "type": "string",
                "maxLength": 16,
                "pattern": "^[0-9]+[.][0-9]+$",
                "description": "The oldest GNU C library that can load its native code, such as 2.31.",
            },
        },
    ),
    "golden": _object(
        {
            "kind": {"enum": ["data", "synthetic", "none"]},
            "samples": _COUNT,
            "inputs": _or_null(_MEMBER),
            "reference": {**_or_null(_MEMBER), "description": "The float model's outputs."},
            "seed": _or_null(_COUNT),
            "notes": _list(_TEXT),
        }
    ),
}

SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": ID,
    "title": "edgec bundle manifest, format 1",
    "description": "Canonical JSON (RFC 8785) inside the DSSE envelope manifest.dsse.",
    **_object(
        {
            "format": {"const": 1},
            "app": _object(
                {"name": _TEXT, "version": _TEXT, "sequence": {**_COUNT, "description": "Counts up with releases."}},
                {
                    "floor": {
                        **_COUNT,
                        "description": "Once this version is confirmed on a device, none with a lower sequence may be "
                        "installed there. At most the bundle's own sequence.",
                    },
                    "expires": {**_TIME, "description": "UTC; no new installations after it. What runs goes on."},
                },
            ),
            "inputs": _list(_ref("tensor"), maxItems=MAX_TENSORS),
            "outputs": _list(_ref("tensor"), minItems=1, maxItems=MAX_TENSORS),
            "preprocessing": _list(_ref("step"), maxItems=256),
            "postprocessing": _list(_ref("step"), maxItems=256),
            "members": _list(_ref("member"), minItems=1, description="In file order, sorted by name."),
            "payloads": _list(
                _ref("payload"), minItems=1, maxItems=MAX_PAYLOADS, description="In order of preference."
            ),
            "golden": _ref("golden"),
            "recipe": _or_null(_MEMBER),
            "report": _or_null(_MEMBER),
            "sbom": _or_null(_MEMBER),
            "compiled_for": _list(_TEXT, description="Boards."),
            "checked_by": _list(_object({"tool": _TEXT, "version": _TEXT, "what": _TEXT})),
            "run_on": _list(
                _object(
                    {
                        "machine": _TEXT,
                        "cpu": _LABEL,
                        "isa": _list(_TEXT, maxItems=1024),
                        "engine": _TEXT,
                        "version": _TEXT,
                    }
                )
            ),
        },
        {
            "hooks": {
                **_object({}, {point: _list(_HOOK, minItems=1, maxItems=MAX_HOOKS) for point in HOOK_POINTS}),
                "description": "Names of programs in the device's own folder of hooks, for each point of an update.",
            },
            "encryption": {
                **_object(
                    {
                        "scheme": {"const": SEALED},
                        "key": {**_SHA256, "description": "Id of the content key, derived from it."},
                        "members": {
                            "type": "object",
                            "minProperties": 1,
                            "maxProperties": MAX_MEMBERS,
                            "propertyNames": _TEXT,
                            "additionalProperties": _object(
                                {"sha256": _SHA256, "size": {**_COUNT, "description": "Bytes."}}
                            ),
                            "description": "Sealed files of payloads: of the plaintext; members has the ciphertext's.",
                        },
                    }
                ),
                "description": "Which members are encrypted, and with which key.",
            },
        },
    ),
    "$defs": _DEFS,
}


if __name__ == "__main__":
    print(json.dumps(SCHEMA, indent=2))
