"""What people do with a bundle on the host: verify, compare, export, and the commands for it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner, Result

import edgec_runtime
import edgec_runtime.bundle as reader
from edgec.bundle import golden, keys, recipe, verify, writer
from edgec.bundle.diff import diff
from edgec.bundle.export import export
from edgec.errors import BadInputError, GoldenError, TrustError, UnsupportedError, UsageError
from edgec.request import Request
from edgec_runtime import golden as measure

MODEL = "payloads/onnxruntime/model.onnx"
ANSWERS = "golden/onnxruntime.bin"


def session(model: bytes) -> Any:
    ours = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda feed: dict(zip([o.name for o in ours.get_outputs()], ours.run(None, dict(feed)), strict=True))


@pytest.fixture
def write(make: Any, tmp_path: Path) -> Any:
    """A bundle with golden answers and a recipe: write("a.edge", scale=2.0)."""

    def written(name: str, scale: float = 2.0, least: float = 60.0, tool: str = "1.0", **changes: Any) -> Path:
        model = make.onnx(scale)
        run = session(model)
        feeds = [{"x": np.arange(8, dtype=np.float32).reshape(2, 4)}, {"x": np.ones((1, 4), np.float32)}]
        made = golden.make(feeds, run, kind="data", limit_bytes=golden.limit([len(model)]))
        entry = make.payload() | {"golden": {"expected": "run", "file": ANSWERS, "min_sqnr_db": least}}
        files = {
            MODEL: model, **made.files(), ANSWERS: made.answers([run(f) for f in made.feeds]),
            "recipe.json": recipe.Recipe(Request(("host",)), {"sha256": "ab" * 32}, tools={"onnx": tool}).to_json(),
        }  # fmt: skip
        content = make.manifest([entry], golden=made.section(), recipe="recipe.json", **changes)
        writer.write(tmp_path / name, content, files, [keys.development_key()])
        return tmp_path / name

    return written


def load(path: Path, scale: float = 1.0) -> verify.Load:
    """Payloads through plain onnxruntime, their outputs multiplied by `scale`."""

    @contextmanager
    def loaded(payload: str) -> Iterator[verify.Run]:
        with reader.open(path) as bundle:
            run = session(bytes(bundle.member(MODEL)))
        yield lambda feed: {name: value * np.float32(scale) for name, value in run(feed).items()}

    return loaded


def edgec(*arguments: object) -> Result:
    from edgec.cli import edgec as group

    return CliRunner().invoke(group, [str(a) for a in arguments])


# verify


def test_verify_says_what_it_checked(write: Any) -> None:
    path = write("a.edge")
    found = verify.verify(path, load=load(path))
    assert found["trusted"] and found["signers"] == [keys.development_key().public_key.keyid]
    assert found["members"] == 5
    assert found["golden"] == {
        "onnxruntime-float32-host": {"samples": 2, "sqnr_db": 200.0, "min_sqnr_db": 60.0},
    }  # fmt: skip
    assert verify.verify(path, run_golden=False)["golden"] == {}


def test_verify_measures_the_noise(write: Any) -> None:
    path = write("a.edge", least=39.0)
    # An error of 1 % of every value is 40 dB below the signal.
    found = verify.verify(path, load=load(path, 1.01))
    assert found["golden"]["onnxruntime-float32-host"]["sqnr_db"] == pytest.approx(40, abs=0.01)
    with pytest.raises(GoldenError, match="does not give") as caught:
        verify.verify(path, load=load(path, 1.02))
    assert caught.value.exit_code == 6 and "dB" in caught.value.why


def test_verify_passes_over_what_can_not_run_here(write: Any) -> None:
    path = write("a.edge")

    @contextmanager
    def refuse(payload: str) -> Iterator[verify.Run]:
        raise UnsupportedError("this CPU has no asimd")
        yield

    assert verify.verify(path, load=refuse)["golden"] == {
        "onnxruntime-float32-host": {"skipped": "this CPU has no asimd"}
    }


@pytest.mark.parametrize(
    "outputs", [[{"y": np.ones((2, 4))}], [{"z": np.ones((2, 4))}] * 2, [{"y": np.ones((2, 3))}] * 2]
)
def test_verify_misses_outputs(write: Any, outputs: list[Mapping[str, Any]]) -> None:
    from edgec.bundle import arrays
    from edgec_runtime.bundle import tensors

    recorded = tensors.decode(arrays.encode([{"y": np.ones((2, 4), np.float32)}] * 2))
    with pytest.raises(GoldenError):
        measure.sqnr_db(recorded, outputs)


def test_sqnr_of_odd_values() -> None:
    from edgec.bundle import arrays
    from edgec_runtime.bundle import tensors

    value = np.array([1.0, np.nan, np.inf, -2.0], np.float32)
    recorded = tensors.decode(arrays.encode([{"y": value, "label": np.array([3])}]))
    assert measure.sqnr_db(recorded, [{"y": value, "label": np.array([4])}]) == measure.IDENTICAL
    for bad in (np.nan, np.inf, 1e30):
        given = {"y": np.array([1, np.nan, np.inf, bad], np.float32), "label": 0 * value[:1]}
        assert measure.sqnr_db(recorded, [given]) < 0
    assert measure.sqnr_db(recorded, [{"y": np.array([1, 0, np.inf, -2], np.float32), "label": np.array([3])}]) < 0
    labels = tensors.decode(arrays.encode([{"label": np.array([3, 4])}]))
    assert measure.sqnr_db(labels, [{"label": np.array([3, 4])}]) == measure.IDENTICAL
    assert measure.sqnr_db(labels, [{"label": np.array([3, 9])}]) < 10


def test_verify_refuses_strangers_and_damage(write: Any, own_folders: Path) -> None:
    path = write("a.edge")
    data = bytearray(path.read_bytes())
    data[-700] ^= 1
    (path.parent / "b.edge").write_bytes(data)
    with pytest.raises(TrustError):
        verify.verify(path.parent / "b.edge", run_golden=False)
    with pytest.raises(TrustError, match="stranger"):
        verify.verify(path, trust={}, run_golden=False)
    assert not verify.verify(path, trust={}, allow_unsigned=True, run_golden=False)["trusted"]


# diff


def compare(a: Path, b: Path) -> dict[str, Any]:
    with reader.open(a) as first, reader.open(b) as second:
        return diff(first, second)


def test_the_same_has_no_differences(write: Any) -> None:
    a, b = write("a.edge"), write("b.edge")
    writer.sign(b, keys.load(keys.new("other").name))
    assert compare(a, b) == {}


def test_changed_weights_are_named(write: Any) -> None:
    found = compare(write("a.edge", 2.0), write("b.edge", 2.5))
    assert found["weights"] == {MODEL: {"w": {"changed": 1, "of": 4, "max_abs_diff": 0.5}}}
    assert found["members"].keys() == {MODEL, ANSWERS, golden.REFERENCE}
    assert "payloads" not in found and "tools" not in found


def test_facts_that_differ(write: Any, make: Any) -> None:
    a = write("a.edge")
    b = write("b.edge", tool="2.0", app={"name": "affine", "version": "1.1.0", "sequence": 2}, compiled_for=["rpi5"])
    found = compare(a, b)
    assert found["app"] == {"version": ["1.0.0", "1.1.0"], "sequence": [1, 2]}
    assert found["compiled_for"] == [["host"], ["rpi5"]]
    assert found["tools"] == {"onnx": ["1.0", "2.0"]}
    assert found["members"].keys() == {"recipe.json"}


def test_payloads_that_differ(make: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "a.edge", tmp_path / "b.edge"]
    score = {"metric": "top1", "value": 0.5, "float_value": 0.6, "n": 9}
    changes: list[dict[str, Any]] = [{}, {"precision": "int8", "accuracy": score}]
    for path, change, data in zip(paths, changes, (b"x" * 10, b"y" * 30), strict=True):
        entry = make.payload(member="payloads/m.bin") | change
        extra = [make.payload("second", "payloads/m.bin")] if change else []
        writer.write(path, make.manifest([*extra, entry]), {"payloads/m.bin": data}, [keys.development_key()])
    found = compare(*paths)
    changed = found["payloads"]["onnxruntime-float32-host"]
    assert changed["precision"] == ["float32", "int8"] and changed["size"] == [10, 30]
    assert changed["accuracy"][0] is None and changed["accuracy"][1]["value"] == 0.5
    assert found["payloads"]["second"]["precision"] == [None, "float32"]
    assert found["payload_order"] == [["onnxruntime-float32-host"], ["second", "onnxruntime-float32-host"]]


def test_a_payload_that_is_no_model_is_told(make: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "a.edge", tmp_path / "b.edge"]
    for path in paths:
        data = os.urandom(50)
        writer.write(path, make.manifest(), {MODEL: data}, [keys.development_key()])
    with pytest.raises(BadInputError, match="no readable ONNX"):
        compare(*paths)


# export


def exported(path: Path, folder: Path) -> dict[str, Any]:
    with reader.open(path) as bundle:
        return export(bundle, folder)


@pytest.mark.skipif(not hasattr(onnxruntime, "ModelPackageContext"), reason="this ONNX Runtime has no model packages")
def test_onnxruntime_opens_the_package(write: Any, tmp_path: Path) -> None:
    path = write("a.edge")
    assert exported(path, tmp_path / "package") == {
        "package": str(tmp_path / "package"), "component": "affine", "variants": ["onnxruntime-float32-host"],
        "left_out": {},
    }  # fmt: skip
    # Opening is strict: a field that the format doesn't know, or a path that leaves the package, is refused.
    with onnxruntime.ModelPackage.open(str(tmp_path / "package")) as package:
        info = package.get_info()
    assert (info["package_name"], info["package_version"], info["layout"]) == ("affine", "1.0.0", "portable")
    context = onnxruntime.ModelPackageContext(str(tmp_path / "package"))
    options = onnxruntime.SessionOptions()
    options.add_provider("CPUExecutionProvider", {})
    selected = context.select_component("affine", onnxruntime.ModelPackageOptions(options))
    assert selected.get_selected_variant_name() == "onnxruntime-float32-host"
    x = np.ones((1, 4), np.float32)
    assert selected.create_session().run(None, {"x": x})[0].tolist() == [[3, 2, 2, 2]]


@pytest.mark.skipif(not hasattr(onnxruntime, "ModelPackageContext"), reason="this ONNX Runtime has no model packages")
def test_onnxruntime_selects_the_preferred_payload(make: Any, tmp_path: Path) -> None:
    entries = [make.payload("z first", "p/z.onnx"), make.payload("a", "p/a.onnx")]
    entries[0]["options"] = {"threads": 3, "spinning": False, "arena": True}
    files = {"p/z.onnx": make.onnx(7.0), "p/a.onnx": make.onnx(1.0)}
    writer.write(tmp_path / "a.edge", make.manifest(entries), files, [keys.development_key()])
    assert exported(tmp_path / "a.edge", tmp_path / "package")["variants"] == ["z_first", "a"]
    context = onnxruntime.ModelPackageContext(str(tmp_path / "package"))
    options = onnxruntime.SessionOptions()
    options.add_provider("CPUExecutionProvider", {})
    selected = context.select_component("affine", onnxruntime.ModelPackageOptions(options))
    assert selected.get_selected_variant_name() == "z_first"
    settings = selected.create_session().get_session_options()
    assert settings.intra_op_num_threads == 3
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_names_can_not_leave_the_package(make: Any, tmp_path: Path) -> None:
    entry = make.payload("../../evil") | {"files": {"model": MODEL, "data": "payloads/weights/w.bin"}}
    content = make.manifest([entry, make.payload("..", MODEL)], app={"name": "../up", "version": "1", "sequence": 1})
    writer.write(tmp_path / "a.edge", content, {MODEL: b"m", "payloads/weights/w.bin": b"w"}, [keys.development_key()])
    made = exported(tmp_path / "a.edge", tmp_path / "package")
    inside = sorted(str(p.relative_to(tmp_path / "package")) for p in (tmp_path / "package").rglob("*") if p.is_file())
    assert sorted(os.listdir(tmp_path)) == ["a.edge", "package"]
    root = f"models/{made['component']}"
    assert len(made["variants"]) == 2 and all(set(v) - set(".") and "/" not in v for v in made["variants"])
    first, second = made["variants"]
    assert inside == sorted(
        [
            "manifest.json",
            f"{root}/component.json",
            f"{root}/{first}/model.onnx",
            f"{root}/{first}/w.bin",
            f"{root}/{second}/model.onnx",
        ]
    )


def test_nothing_is_left_of_a_failed_export(write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.edge")
    real = Path.open

    def full(self: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        return real(Path("/dev/full"), "wb") if mode == "xb" else real(self, mode, *more, **named)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(BadInputError) as caught:
        exported(path, tmp_path / "package")
    assert caught.value.code == "E910" and "No space left" in caught.value.why
    assert os.listdir(tmp_path) == ["a.edge"]


def test_export_refuses_a_folder_with_files_and_foreign_payloads(write: Any, make: Any, tmp_path: Path) -> None:
    path = write("a.edge")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    with pytest.raises(UsageError):
        exported(path, tmp_path / "taken")
    entry = make.payload() | {"engine": "tvm"}
    writer.write(tmp_path / "b.edge", make.manifest([entry]), {MODEL: b"m"}, [keys.development_key()])
    with pytest.raises(UnsupportedError):
        exported(tmp_path / "b.edge", tmp_path / "new")
    assert not (tmp_path / "new").exists()


# The commands


def test_keys_commands(tmp_path: Path) -> None:
    made = json.loads(edgec("keys", "new", "release", "--json").output)
    assert made["name"] == "release" and not made["trusted"]
    assert json.loads(edgec("keys", "trust", made["public"], "--json").output) == {
        "key_id": made["key_id"],
        "root_version": 0,
    }
    (listed,) = json.loads(edgec("keys", "list", "--json").output)["keys"]
    assert listed["trusted"] and listed["key_id"] == made["key_id"]
    assert "release" in edgec("keys", "list").output
    assert isinstance(edgec("keys", "new", "release").exception, UsageError)


def test_sign_command(write: Any) -> None:
    path = write("a.edge")
    made = json.loads(edgec("keys", "new", "release", "--json").output)
    answer = edgec("sign", path, "--sign", "release", "--json")
    assert json.loads(answer.output)["key_id"] == made["key_id"]
    with reader.open(path, trust=[made["public"]]) as bundle:
        assert bundle.signers == (made["key_id"],)
    assert "next: edgec verify" in edgec("sign", path).output


def test_diff_command(write: Any) -> None:
    a, b = write("a.edge"), write("b.edge", 2.5)
    same = edgec("diff", a, a)
    assert same.exit_code == 0 and "identical" in same.output
    other = edgec("diff", a, b, "--json")
    assert other.exit_code == 8
    assert json.loads(other.output)["differences"]["weights"][MODEL]["w"]["changed"] == 1
    shown = edgec("diff", a, b)
    assert shown.exit_code == 8 and "1, most w by 0.5" in shown.output


def test_export_command(write: Any, tmp_path: Path) -> None:
    answer = edgec("export", write("a.edge"), "--ort-package", tmp_path / "p", "--json")
    assert json.loads(answer.output)["component"] == "affine"
    assert (tmp_path / "p" / "manifest.json").is_file()
    assert edgec("export", tmp_path / "a.edge").exit_code == 2


@pytest.mark.skipif(not hasattr(edgec_runtime, "load"), reason="edgec_runtime.load is not there")
def test_verify_command(write: Any) -> None:
    path = write("a.edge")
    answer = edgec("verify", path)
    assert answer.exit_code == 0, answer.exception
    assert "2 golden inputs, 200.0 dB" in answer.output
    found = json.loads(edgec("verify", path, "--json").output)
    assert found["golden"]["onnxruntime-float32-host"]["samples"] == 2
