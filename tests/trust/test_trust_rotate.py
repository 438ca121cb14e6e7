"""Root metadata on the device: pinned once, followed version by version, refused in every other case."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import sys
from pathlib import Path

import pytest

from edgec_runtime.errors import Error, TrustError, UsageError
from edgec_runtime.trust import __main__ as trust_command
from edgec_runtime.trust import clock, metadata, rotate, store
from tests.runtime.conftest import private_key, public_raw
from tests.trust import made_roots as made


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device root with version 1 pinned: 2 of the keys 11, 12, 13; release key 1."""
    folder = tmp_path / "device"
    monkeypatch.setenv("EDGEC_ROOT", str(folder))
    assert rotate.pin(made.root()) == 1
    return folder


def refused(code: str, *chain: bytes, version: int = 1) -> Error:
    """The chain is refused with this code, and the device trusts `version` afterwards."""
    with pytest.raises(TrustError) as caught:
        rotate.update(list(chain))
    assert caught.value.code == code and caught.value.why and caught.value.fix, caught.value
    now = rotate.current()
    assert now is not None and now.version == version
    return caught.value


def test_pinned_root_replaces_single_keys(device: Path) -> None:
    stranger = public_raw(private_key(5))
    (device / "trust" / f"{store.key_id(stranger)}.pem").write_bytes(store.to_pem(stranger))
    trusted = store.load_trusted()
    assert dict(trusted) == {made.key_id(1): public_raw(private_key(1))}
    assert (trusted.threshold, trusted.version, trusted.expires) == (1, 1, "2099-01-01T00:00:00Z")
    (device / "trust" / "root.dsse").unlink()
    assert dict(store.load_trusted()) == {store.key_id(stranger): stranger}


def test_the_same_root_may_be_pinned_again_another_not(device: Path) -> None:
    assert rotate.pin(made.root()) == 1
    assert rotate.pin(made.root(signers=(11, 13))) == 1  # the same content, signed by others
    for other in (made.root(2), made.root(release=(2,)), made.root(root=(21, 22), signers=(21, 22))):
        with pytest.raises(TrustError) as caught:
            rotate.pin(other)
        assert caught.value.code == "E520"
    assert (device / "trust" / "root.dsse").read_bytes() == made.root()


def test_a_chain_is_followed_to_its_end_and_each_step_is_kept(device: Path) -> None:
    second = made.root(2, signed="2026-02-01T00:00:00Z", root=(12, 13, 14), signers=(11, 12, 13), release=(2,))
    third = made.root(3, signed="2026-03-01T00:00:00Z", root=(14, 15), signers=(12, 14, 15), release=(2, 3),
                      release_threshold=2)  # fmt: skip
    assert rotate.update([second, third]) == 3
    assert rotate.update([third]) == 3  # a repeated transfer
    trusted = store.load_trusted()
    assert set(trusted) == {made.key_id(2), made.key_id(3)} and trusted.threshold == 2 and trusted.version == 3
    assert (device / "trust" / "time").read_text() == "2026-03-01T00:00:00Z\n"
    assert sorted(os.listdir(device / "trust")) == ["root.dsse", "time"] and not os.listdir(device / "stage")


class Cut(BaseException):
    """The power goes."""


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
def test_a_cut_at_any_call_leaves_a_version_that_is_whole(
    device: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Cut before and after each call of a rotation of two steps; the next run gets to the end.

    What a disk makes of writes that were not flushed is the crash laboratory's subject (docs/flash_power.md).
    """
    first = (device / "trust" / "root.dsse").read_bytes()
    chain = [made.root(2, signed="2026-02-01T00:00:00Z"), made.root(3, signed="2026-03-01T00:00:00Z")]
    real, cuts = getattr(os, call), 0
    for after in (False, True):
        for nth in range(100):
            (device / "trust" / "root.dsse").write_bytes(first)
            (device / "trust" / "time").write_text("2026-01-01T00:00:00Z\n")
            left = [nth]

            def cut(*arguments: object, after: bool = after, left: list[int] = left, **more: object) -> object:
                left[0] -= 1
                if left[0] == -1 and not after:
                    raise Cut
                done = real(*arguments, **more)
                if left[0] == -1:
                    raise Cut
                return done

            with monkeypatch.context() as patch:
                patch.setattr(os, call, cut)
                try:
                    rotate.update(chain)
                    break
                except Cut:
                    cuts += 1
            now = rotate.current()
            assert now is not None and now.version in (1, 2, 3)
            assert clock.seen() >= 1_767_225_600, "2026: a signed time that was seen is not lost"
            assert rotate.update([data for data in chain if metadata.parse(data).version > now.version]) == 3
    assert cuts >= 8


def test_a_full_disk_leaves_the_version_before(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Error) as caught:
            rotate.update([made.root(2)])
    assert caught.value.code == "E906" and caught.value.exit_code == 9
    now = rotate.current()
    assert now is not None and now.version == 1
    assert rotate.update([made.root(2)]) == 2
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(PermissionError(errno.EROFS, "Read-only")))
    with pytest.raises(UsageError) as refusal:
        rotate.update([made.root(3)])
    assert refusal.value.code == "E201"


def test_a_chain_that_breaks_off_keeps_what_came_before(device: Path) -> None:
    good, bad = made.root(2), made.root(3, signers=(11,))
    refused("E516", good, bad, version=2)
    refused("E516", bad, version=2)
    assert rotate.update([]) == 2
    assert rotate.update([made.root(1 + n) for n in (2, 3, 4)]) == 5


def told(data: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict]:
    """What `python -m edgec_runtime.trust` says to this standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    code = trust_command.main()
    return code, json.loads(capsys.readouterr().out)


def test_the_command_that_setup_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EDGEC_ROOT", str(tmp_path / "device"))

    def chain(*envelopes: bytes) -> bytes:
        return json.dumps({"chain": [base64.b64encode(data).decode() for data in envelopes]}).encode()

    assert told(chain(made.root(1)), monkeypatch, capsys) == (0, {"version": 1, "before": 0})
    assert told(chain(made.root(1), made.root(2)), monkeypatch, capsys) == (0, {"version": 2, "before": 1})
    code, said = told(chain(made.root(1)), monkeypatch, capsys)
    assert (code, said["error"]["code"], said["error"]["exit_code"]) == (5, "E524", 5)
    assert told(chain(), monkeypatch, capsys)[1]["error"]["code"] == "E524"
    for junk in (b"", b"[]", b"{", b'{"chain": 5}', b'{"chain": ["x"]}', b'{"chain": [5]}', b"[" * 100_000, b"\xff"):
        code, said = told(junk, monkeypatch, capsys)
        assert code in (5, 9) and said["error"]["what"], junk[:20]
    now = rotate.current()
    assert now is not None and now.version == 2
