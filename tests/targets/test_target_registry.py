"""Targets by name, plug-ins by entry point, and how a broken plug-in is told."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from edgec_runtime.errors import MissingError
from edgec_targets import registry, target, targets


def plug_in(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setattr(registry, "_plugins", lambda: {name: EntryPoint(name, value, registry.GROUP)})


def test_the_built_in_targets() -> None:
    found = targets()
    assert list(found)[:2] == ["host", "arm_cpu"]
    for name, t in found.items():
        assert t.name == name and t.title
        assert [e.name for e in t.emitters] == ["onnxruntime"] + ["litert", "tvm", "ncnn"] * (name != "x86_cpu")
        assert set(t.precisions) == {"int8", "float32"}
        assert t.passes is None


def test_an_unknown_target_names_its_neighbours() -> None:
    with pytest.raises(MissingError, match="arm_cpi") as e:
        target("arm_cpi")
    assert "arm_cpu" in e.value.fix and e.value.exit_code == 10


def test_a_plug_in_is_found_and_loaded_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, "third", "edgec_targets.host:TARGET")
    assert registry.target_names() == ["host", "arm_cpu", "x86_cpu", "third"]
    assert target("third").name == "host"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("no_such_module_at_all:TARGET", "can't be loaded"),
        ("edgec_targets.host:NOTHING", "can't be loaded"),
        ("edgec_targets.host:__name__", "is not a Target"),
    ],
)
def test_a_broken_plug_in_is_named_and_hides_no_other(monkeypatch: pytest.MonkeyPatch, value: str, says: str) -> None:
    plug_in(monkeypatch, "broken", value)
    with pytest.raises(MissingError, match=says) as e:
        target("broken")
    assert "broken" in e.value.what
    assert target("host").name == "host"
