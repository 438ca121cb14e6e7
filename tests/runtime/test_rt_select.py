"""Which payload a machine takes, and the reason for each that it does not."""

from __future__ import annotations

import pytest

from edgec_runtime import machine, select
from edgec_runtime.engines.base import Engine
from edgec_runtime.errors import MissingError, UnsupportedError, UsageError


class Fake(Engine):
    name, uses_numpy = "fake", True

    def __init__(self, version):
        self._version = version

    def version(self):
        return self._version


PI = machine.Machine("aarch64", frozenset({"asimd", "asimddp"}), 1_000_000_000)
PC = machine.Machine("x86_64", frozenset({"avx2"}), None)


def ids(payloads, here):
    return [payload["id"] for payload in select.order(payloads, here)]


def test_order_is_native_first_then_portable(kit):
    payloads = [
        kit.payload(id="arm", arch="aarch64", portable=False),
        kit.payload(id="pc-portable"),
        kit.payload(id="arm-portable", arch="aarch64"),
        kit.payload(id="pc", portable=False),
    ]
    assert ids(payloads, PI) == ["arm", "arm-portable", "pc-portable"]
    assert ids(payloads, PC) == ["pc-portable", "pc", "arm-portable"]
    assert ids(payloads, machine.Machine("riscv64", frozenset(), None)) == ["pc-portable", "arm-portable"]


def test_of_several_boards_payloads_those_of_the_board_nearest_to_the_machine_come_first(kit):
    """Whatever the order of the boards when the bundle was made, each keeping its own order."""
    zero = [kit.payload(id=f"zero-{n}", arch="aarch64", board_isa=["asimd"]) for n in "ab"]
    five = [kit.payload(id=f"five-{n}", arch="aarch64", board_isa=["asimd", "asimddp"]) for n in "ab"]
    new = [kit.payload(id="new", arch="aarch64", board_isa=["asimd", "asimddp", "i8mm"])]
    old = machine.Machine("aarch64", frozenset({"asimd"}), None)
    for payloads in (zero + five + new, new + five + zero, five + new + zero):
        assert ids(payloads, PI) == ["five-a", "five-b", "zero-a", "zero-b", "new"]
        assert ids(payloads, old)[:2] == ["zero-a", "zero-b"]


@pytest.mark.parametrize(
    "changes, here, trusted, why",
    [
        ({}, PC, True, None),
        ({"arch": "aarch64", "isa": ["asimddp"]}, PI, True, None),
        ({"arch": "aarch64", "isa": ["asimddp", "i8mm", "sve"]}, PI, True, "lacks i8mm, sve"),
        ({"isa": ["avx512_vnni"]}, PI, True, None),  # only checked where arch is the machine's
        ({"portable": False}, PI, True, "for x86_64; this machine is aarch64"),
        ({"native_code": True}, PC, True, None),
        ({"native_code": True}, PC, False, "never loaded from an untrusted bundle"),
        ({"native_code": True}, PI, True, "native code is for x86_64"),
        ({"memory": 999_999_999}, PI, True, None),
        ({"memory": 2_000_000_000}, PI, True, "2000 MB of memory; 1000 MB are free"),
        ({"memory": 2_000_000_000}, PC, True, None),  # unknown
    ],
)
def test_obstacles(kit, changes, here, trusted, why):
    found = select.obstacle(kit.payload(**changes), here, trusted=trusted)
    assert found is None if why is None else why in found


@pytest.mark.parametrize(
    "engine, why",
    [
        (Fake("1.30.0"), None),
        (Fake("1.17"), "needs onnxruntime >=1.18,<2; 1.17 is installed"),
        (Fake("2.0rc1"), "2.0rc1 is installed"),
        (Fake("unknown"), "unknown is installed"),
        (Fake(None), "not installed"),
        (None, "no adapter"),
    ],
)
def test_engines(kit, engine, why):
    found = select.engine_for(kit.payload(), find=lambda name: engine)
    assert found is engine if why is None else why in found


def test_wanted(kit):
    payloads = [kit.payload(id="a"), kit.payload(id="b", engine="litert")]
    assert select.wanted(payloads, engine=None, payload=None) == (payloads, {})
    left, refused = select.wanted(payloads, engine="litert", payload=None)
    assert left == payloads[1:] and list(refused) == ["a"]
    assert select.wanted(payloads, engine=None, payload="a")[0] == payloads[:1]
    for engine, payload in (("tvm", None), (None, "c"), ("litert", "a")):
        with pytest.raises(UsageError):
            select.wanted(payloads, engine=engine, payload=payload)


def test_the_error_lists_each_payload_and_why(kit):
    payloads = [kit.payload(id="a"), kit.payload(id="b")]
    error = select.none_usable(payloads, {"a": "this CPU lacks avx2", "b": "the engine 'x' is not installed"}, PC)
    assert type(error) is UnsupportedError and error.exit_code == 4
    assert "a: this CPU lacks avx2; b: the engine" in error.why
    missing = select.none_usable(payloads, dict.fromkeys("ab", "the engine 'onnxruntime' is not installed"), PC)
    assert type(missing) is MissingError and "pip install 'onnxruntime>=1.18,<2'" in missing.fix
    outdated = select.none_usable(payloads, dict.fromkeys("ab", "it needs onnxruntime >=3; 1.2 is installed"), PC)
    assert type(outdated) is MissingError


def test_this_machine(tmp_path):
    import platform

    here = machine.this()
    assert here.arch == platform.machine() and here.isa and here.memory > 1_000_000
    (tmp_path / "cpu").write_text("processor\t: 0\nFeatures\t: fp asimd i8mm\nprocessor: 1\nFeatures: fp\n")
    (tmp_path / "mem").write_text("MemTotal: 1000 kB\nMemAvailable:   500 kB\n")
    pi = machine.this(str(tmp_path / "cpu"), str(tmp_path / "mem"))
    assert pi.isa == {"fp", "asimd", "i8mm"} and pi.memory == 512_000
    none = machine.this(str(tmp_path / "no"), str(tmp_path / "no"))
    assert none.isa == frozenset() and none.memory is None
