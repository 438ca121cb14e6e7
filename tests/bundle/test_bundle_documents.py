"""Schema, recipe and bill of materials: what stands in a bundle beside the payloads."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.bundle import envelope, recipe, sbom, schema
from edgec.bundle.sbom import Library
from edgec.errors import BadInputError
from edgec.request import Request
from edgec_runtime.bundle import manifest as reader_rules

DOCS = Path(__file__).parents[2] / "docs"
MEMBER = "payloads/onnxruntime/model.onnx"


@pytest.fixture(scope="module")
def whole(make: Any) -> dict[str, Any]:
    """A manifest that uses every field of the format."""
    entry = make.payload()
    entry["accuracy"] = {"metric": "top1", "value": 0.5, "float_value": 0.75, "n": 4}
    entry["golden"] = {"expected": "run", "file": "golden/a.bin", "min_sqnr_db": 25.5}
    entry["isa"] = ["asimd"]
    entry["board_isa"] = ["asimd", "asimddp"]
    entry["glibc"] = "2.31"
    names = [
        "golden/a.bin",
        "golden/inputs.bin",
        "golden/reference.bin",
        MEMBER,
        "recipe.json",
        "report.json",
        "sbom.json",
    ]
    offsets = [64, 192, 320, 448, 576, 704, 832]
    app = {"name": "app", "version": "1.0", "sequence": 7, "floor": 5, "expires": "2027-02-28T00:00:00Z"}
    points = ("pre-install", "post-verify", "pre-activate", "health", "post-confirm")
    return dict(
        make.manifest(
            [entry],
            app=app,
            hooks={point: ["check-camera"] for point in points},
            encryption={
                "scheme": "edgec-sealed-1", "key": "cd" * 32, "members": {MEMBER: {"sha256": "ef" * 32, "size": 1}},
            },
            preprocessing=[{"op": "resize", "width": 4}],
            golden={
                "kind": "synthetic", "samples": 1, "inputs": "golden/inputs.bin", "reference": "golden/reference.bin",
                "seed": 0, "notes": ["why"],
            },
            recipe="recipe.json", report="report.json", sbom="sbom.json",
            checked_by=[{"tool": "onnxruntime", "version": "1.32.0", "what": "loaded"}],
            run_on=[{"machine": "x86_64", "cpu": "", "isa": ["avx2"], "engine": "onnxruntime", "version": "1.32.0"}],
        ),
        members=[
            {"name": n, "sha256": "ab" * 32, "size": 17, "offset": at} for n, at in zip(names, offsets, strict=True)
        ],
    )  # fmt: skip


def problem(manifest: dict[str, Any]) -> str | None:
    """Where a manifest does not follow the schema."""
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(schema.SCHEMA).iter_errors(manifest))
    return None if error is None else error.json_path


def test_the_published_schema_is_the_one_in_the_code() -> None:
    text = (DOCS / "bundle-1.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == schema.SCHEMA, "python -m edgec.bundle.schema > docs/bundle-1.schema.json"


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.SCHEMA)


def test_schema_and_reader_accept_a_whole_manifest(whole: dict[str, Any]) -> None:
    assert problem(whole) is None
    assert reader_rules.parse(envelope.canonical(whole)) == whole


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, child in children for p in places(child, (*path, key)))]


@settings(max_examples=150)
@given(data=st.data())
def test_schema_and_reader_refuse_the_same(whole: dict[str, Any], data: st.DataObject) -> None:
    """One value of a good manifest replaced, taken out or added: the two agree about what is left."""
    changed = copy.deepcopy(whole)
    *path, last = data.draw(st.sampled_from(places(whole)[1:]))
    parent = changed
    for key in path:
        parent = parent[key]
    values = st.sampled_from([None, True, 0, -1, 1.5, "", "x", "y" * 1025, [], ["x"], {}, {"x": 1}, 2**53])
    action = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if action == "remove":
        del parent[last]
    elif action == "add" and isinstance(parent, dict):
        parent[data.draw(st.sampled_from(["surprise", "sqnr_db", "name", "size"]))] = data.draw(values)
    else:
        parent[last] = data.draw(values)
    followed = problem(changed) is None
    try:
        reader_rules.parse(json.dumps(changed).encode())
        read = True
    except BadInputError as e:
        # What a schema can't say: members and their users agree, versions parse, names are safe everywhere, days exist.
        words = ("named", "member", "stands after", "version", "plain relative path", "out of range", "members:")
        words += ("there is no", "would forbid itself", "encryption: ")
        read = followed and any(word in e.why for word in words)
    assert followed == read, (path, last, action)


def fields(value: Any, definitions: dict[str, Any]) -> Any:
    """A schema's property names, as a tree."""
    if "$ref" in value:
        return fields(definitions[value["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in value:
        return fields(value["anyOf"][0], definitions)
    if "items" in value:
        return fields(value["items"], definitions)
    return {k: fields(v, definitions) for k, v in value.get("properties", {}).items()}


def test_the_whole_manifest_has_every_field_of_the_schema(whole: dict[str, Any]) -> None:
    def tree(value: Any, like: Any) -> Any:
        if isinstance(value, list):
            value = value[0] if value else {}
        return {k: tree(v, like.get(k, {})) for k, v in value.items()} if isinstance(value, dict) and like else {}

    known = fields(schema.SCHEMA, schema.SCHEMA["$defs"])
    for steps in ("preprocessing", "postprocessing"):  # open objects: any step
        known[steps] = {}
    assert tree(whole, known) == known


def test_schema_names_the_place(whole: dict[str, Any]) -> None:
    changed = copy.deepcopy(whole)
    changed["payloads"][0]["opset"] = "21"
    assert problem(changed) == "$.payloads[0].opset"


# The recipe


MADE = recipe.Recipe(
    request=Request(boards=("rpi5", "host"), shapes={"x": ["batch", 3]}, exclude=("Softmax",), name="a", seed=7),
    source={"sha256": "ab" * 32, "notes": []},
    data={"calibration": {"sha256": "cd" * 32, "samples": 4}},
    decisions=({"board": "rpi5", "precision": "int8", "why": "fast"},),
    measured={"cost": {"conv1": 0.25}},
    tools={"onnxruntime": "1.32.0"},
)


def test_recipe_round_trip() -> None:
    data = MADE.to_json()
    again = recipe.Recipe.from_json(data)
    assert again.to_json() == data
    assert again.request == Request.from_dict(MADE.request.as_dict())
    assert again.decisions == MADE.decisions and again.measured == MADE.measured and again.tools == MADE.tools


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda r: r.pop("tools"), "no 'tools'"),
        (lambda r: r.update(format=2), "format is 2"),
        (lambda r: r.update(extra=1), "'extra'"),
        (lambda r: r.update(source=[]), "'source' is no object"),
        (lambda r: r.update(decisions=[1]), "'decisions'"),
        (lambda r: r.update(tools={"a": 1}), "'tools'"),
        (lambda r: r["request"].update(precision="int3"), "int3"),
        (lambda r: r["request"].update(surprise=1), "surprise"),
        (lambda r: r["request"].pop("boards"), "boards"),
    ],
)
def test_recipe_is_read_strictly(change: Any, word: str) -> None:
    values = json.loads(MADE.to_json())
    change(values)
    with pytest.raises(BadInputError) as caught:
        recipe.Recipe.from_json(json.dumps(values).encode())
    assert word in caught.value.why


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"format":1,"format":1}', b"\xff", b'{"format":NaN}', b"[" * 999])
def test_recipe_that_is_no_recipe(data: bytes) -> None:
    with pytest.raises(BadInputError):
        recipe.Recipe.from_json(data)


# The bill of materials


def bom(**changes: Any) -> bytes:
    given: dict[str, Any] = {
        "hashes": {"payloads/b.onnx": "cd" * 32, "payloads/a.onnx": "ab" * 32},
        "source_sha256": "ef" * 32,
        "tools": [Library("onnx", "1.23.2"), Library("edgec", "0.1.0")],
        "engines": [Library("onnxruntime", "1.32.0")],
        "licence": "Apache-2.0",
    }
    return sbom.make("lite0", "1.0.0", **{**given, **changes})


def test_bill_of_materials_is_the_same_for_the_same_contents() -> None:
    first = bom()
    assert first == bom()
    assert first == bom(tools=[Library("edgec", "0.1.0"), Library("onnx", "1.23.2"), Library("onnx", "1.23.2")])
    other = bom(hashes={"payloads/a.onnx": "00" * 32})
    assert json.loads(first)["serialNumber"] != json.loads(other)["serialNumber"]
    assert b"timestamp" not in first


def test_bill_of_materials_says_what_it_must() -> None:
    value = json.loads(bom())
    model = value["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert [f["hashes"][0]["content"] for f in model["components"]] == ["ab" * 32, "cd" * 32]
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert [c["purl"] for c in value["components"]] == ["pkg:pypi/onnxruntime@1.32.0"]
    assert {"ref": "model", "dependsOn": ["needs:pkg:pypi/onnxruntime@1.32.0"]} in value["dependencies"]
    assert [t["name"] for t in value["metadata"]["tools"]["components"]] == ["edgec", "onnx"]
    assert "licenses" not in json.loads(bom(licence=None))["metadata"]["component"]
    assert "named" in str(json.loads(bom(licence="Something named"))["metadata"]["component"]["licenses"])


def test_bill_of_materials_follows_cyclonedx() -> None:
    """Against CycloneDX's own schema, as its Python library ships it."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.schema._res import BOM_JSON_STRICT, JSF, SPDX_JSON
    from referencing import Registry
    from referencing.jsonschema import DRAFT7

    def read(path: Any) -> Any:
        return json.loads(Path(path).read_text(encoding="utf-8"))

    main = read(BOM_JSON_STRICT[SchemaVersion.V1_6])
    extra = [("spdx.SNAPSHOT.schema.json", SPDX_JSON), ("jsf-0.82.SNAPSHOT.schema.json", JSF)]
    base = "http://cyclonedx.org/schema/"
    registry = Registry().with_resources([(base + name, DRAFT7.create_resource(read(path))) for name, path in extra])
    jsonschema.Draft7Validator(main, registry=registry).validate(json.loads(bom()))
