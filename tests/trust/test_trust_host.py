"""Root metadata as people make it: `edgec keys rotate`, `edgec keys root`, `edgec sign`, one key a person."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgec.cli.keys import notes
from edgec.errors import TrustError, UsageError
from edgec.trust import chain, dates
from edgec_runtime.bundle import reader
from edgec_runtime.slots.install import install
from edgec_runtime.trust import metadata, rotate, store, when
from tests.command import Said, edgec
from tests.runtime.conftest import Kit, tiny_model


class Person:
    """Whoever has keys of their own: a configuration folder."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch

    def __call__(self, *arguments: object, code: int = 0) -> Said:
        self._patch.setenv("EDGEC_CONFIG", str(self.folder))
        said = edgec(*arguments)
        assert said.code == code, said.out + said.err
        return said

    def key(self, name: str) -> Path:
        """Make a key; its public file."""
        return Path(self("keys", "new", name, "--json").json["public"])

    @property
    def chain(self) -> list[chain.Version]:
        self._patch.setenv("EDGEC_CONFIG", str(self.folder))
        return chain.chain()


@pytest.fixture
def person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Person]:
    return lambda name: Person(tmp_path / name, monkeypatch)


@pytest.fixture
def alone(person: Callable[[str], Person]) -> Person:
    """One person with all keys: a and b for root, r for releases, and version 1."""
    someone = person("alone")
    for name in "abr":
        someone.key(name)
    made = someone("keys", "rotate", "--root-key", "a", "--root-key", "b", "--release-key", "r", "--json").json
    assert made["version"] == 1 and made["roles"]["root"]["threshold"] == 2 and made["missing"] == []
    return someone


def test_the_first_needs_its_keys(alone: Person, person: Callable[[str], Person]) -> None:
    other = person("other")
    assert "E220" in other("keys", "rotate", code=2).err
    assert "no root metadata" in other("keys", "root").out
    other.key("a")
    assert "E1010" in other("keys", "rotate", "--root-key", "nobody", "--release-key", "a", code=10).err
    wrong = other("keys", "rotate", "--root-key", "a", "--root-threshold", "2", "--release-key", "a", code=2)
    assert "2 of 1 root keys" in wrong.err
    assert other.chain == [] and [version.number for version in alone.chain] == [1]


def test_what_is_not_named_stays(alone: Person) -> None:
    alone.key("c")
    made = alone(
        "keys", "rotate", "--release-key", "r", "--release-key", "c", "--release-threshold", "2", "--json"
    ).json
    first, second = alone.chain
    assert made["version"] == 2 and second.root.root == first.root.root
    assert second.root.release.threshold == 2 and len(second.root.release) == 2
    assert when.parse(second.root.expires) - when.parse(second.root.signed) == 2 * 365 * 86400
    made = alone("keys", "rotate", "--expires", "2031-05-06", "--json").json
    assert made["expires"] == "2031-05-06T23:59:59Z" and made["version"] == 3
    assert alone.chain[2].root.release == second.root.release
    assert "E221" in alone("keys", "rotate", "--expires", "tomorrow", code=2).err
    assert "E221" in alone("keys", "rotate", "--expires", "2001-01-01", code=2).err
    assert len(alone.chain) == 3


def test_what_should_be_known_in_time(alone: Person) -> None:
    root = alone("keys", "root").out
    assert "if one is lost" in root and "expires in" not in root
    alone.key("c")
    three = [word for name in "abc" for word in ("--root-key", name)]
    said = alone("keys", "rotate", *three, "--expires", "2098-12-31")
    version = alone.chain[1]
    assert "if one is lost" not in said.out
    day = 86400.0
    end = when.parse(version.root.expires)
    (soon,) = notes(version, end - 89 * day)
    assert "expires in 89 days" in soon and notes(version, end - 91 * day) == []
    assert "has expired" in notes(version, end + 1)[0]
    assert "ahead of this machine's clock" in notes(version, when.parse(version.root.signed) - 2 * day)[-1]


def test_a_signed_time_never_goes_back(alone: Person) -> None:
    first = alone.chain[0]
    made = chain.next_version(now=5)
    assert made.root.signed == first.root.signed and made.number == 2


def test_a_device_follows_what_people_made(alone: Person, tmp_path: Path) -> None:
    alone.key("c")
    alone("keys", "rotate", "--root-key", "a", "--root-key", "c")
    alone("keys", "rotate", "--release-key", "c")
    envelopes = [version.data for version in alone.chain]
    device = tmp_path / "device"
    assert rotate.adopt(envelopes[:1], root=device) == 1
    assert rotate.adopt(envelopes, root=device) == 3
    assert rotate.adopt(envelopes, root=device) == 3
    for older in (envelopes[:2], []):
        with pytest.raises(TrustError) as caught:
            rotate.adopt(older, root=device)
        assert caught.value.code == "E524"
    assert rotate.adopt(envelopes, root=tmp_path / "another") == 3, "the first one sees the newest"
    with pytest.raises(TrustError) as caught:
        rotate.adopt(envelopes[2:], root=_pinned(tmp_path / "third", envelopes[0]))
    assert caught.value.code == "E519"


def _pinned(folder: Path, envelope: bytes) -> Path:
    rotate.pin(envelope, root=folder)
    return folder


def test_three_people_one_key_each(person: Callable[[str], Person], tmp_path: Path) -> None:
    """alice makes it, bob signs, carol's key is lost later: alice and bob replace it with dave's."""
    people = {name: person(name) for name in ("alice", "bob", "carol", "dave")}
    public = {name: someone.key(name) for name, someone in people.items()}
    alice, bob = people["alice"], people["bob"]
    release = alice.key("release")
    keys = [word for name in ("alice", "bob", "carol") for word in ("--root-key", public[name])]
    draft = alice("keys", "rotate", *keys, "--release-key", release, "--json").json
    assert draft["file"].endswith("root.1.draft.dsse") and draft["missing"][0]["need"] == 1
    assert alice.chain == []
    with pytest.raises(TrustError):
        metadata.whole(Path(draft["file"]).read_bytes())
    sent = tmp_path / "root.1.draft.dsse"
    shutil.copy(draft["file"], sent)
    assert "E522" in people["dave"]("sign", sent, "--sign", "dave", code=5).err
    assert "E220" in bob("sign", sent, code=2).err
    done = bob("sign", sent, "--sign", "bob", "--json").json
    assert done["missing"] == [] and done["file"].endswith("/root.1.dsse")
    assert sent.read_bytes() == Path(done["file"]).read_bytes(), "the file that travels is complete too"
    for someone in (alice, people["carol"]):
        said = someone("keys", "root", "--add", sent)
        assert "2 of 3" in said.out
    # carol's key is lost.
    keys = [word for name in ("alice", "bob", "dave") for word in ("--root-key", public[name])]
    draft = alice("keys", "rotate", *keys, "--json").json
    assert [m["version"] for m in draft["missing"]] == [1, 2]
    # dave alone is no old key, so the old threshold is not reached by them.
    shutil.copy(draft["file"], sent)
    people["dave"]("keys", "root", "--add", Path(done["file"]))
    still = people["dave"]("sign", sent, "--sign", "dave", "--json").json
    assert [m["version"] for m in still["missing"]] == [1]
    done = bob("sign", sent, "--sign", "bob", "--json").json
    assert done["missing"] == [] and done["version"] == 2
    assert not list(bob.folder.glob("trust/*draft*"))
    with pytest.raises(TrustError):
        metadata.parse(b"{" + sent.read_bytes())
    alice("keys", "root", "--add", sent)
    assert not list(alice.folder.glob("trust/*draft*"))
    device = tmp_path / "device"
    assert rotate.adopt([v.data for v in alice.chain], root=device) == 2
    # The draft is finished; signing it again where it lies changes nothing.
    again = alice("sign", sent, "--sign", "alice", "--json").json
    assert again["version"] == 2 and again["missing"] == [] and len(alice.chain) == 2


def test_nobody_signs_what_they_cannot_judge(alone: Person, person: Callable[[str], Person], tmp_path: Path) -> None:
    """Version 2 without version 1: who must sign can't be known."""
    alone("keys", "rotate")
    other = person("other")
    shutil.copytree(alone.folder / "keys", other.folder / "keys")
    sent = tmp_path / "root.2.dsse"
    shutil.copy(alone.chain[1].path, sent)
    assert "E1010" in other("sign", sent, "--sign", "a", code=10).err
    # Whoever joins begins with what the team has.
    assert other("keys", "root", "--add", sent, "--json").json["version"] == 2
    assert other("keys", "rotate", "--json").json["version"] == 3


def test_a_chain_does_not_fork(alone: Person, person: Callable[[str], Person], tmp_path: Path) -> None:
    other = person("other")
    shutil.copytree(alone.folder, other.folder)
    alone("keys", "rotate", "--expires", "2031-01-01")
    other("keys", "rotate", "--expires", "2032-01-01")
    theirs = tmp_path / "root.2.dsse"
    shutil.copy(other.chain[1].path, theirs)
    assert "E518" in alone("keys", "root", "--add", theirs, code=5).err
    assert "E518" in alone("sign", theirs, "--sign", "a", code=5).err
    assert alone.chain[1].root.expires.startswith("2031")


def test_a_chain_that_was_touched(alone: Person) -> None:
    alone("keys", "rotate")
    alone("keys", "rotate")
    one, two, three = alone.chain
    shutil.copy(three.path, two.path)
    assert "E515" in alone("keys", "root", code=5).err
    two.path.unlink()
    assert "E519" in alone("keys", "root", code=5).err
    two.path.write_bytes(two.data.replace(b"sig", b"six"))
    assert "E515" in alone("keys", "root", code=5).err
    two.path.write_bytes(two.data)
    assert [v.number for v in alone.chain] == [one.number, 2, 3]


def test_a_bundle_that_two_must_sign(alone: Person, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone.key("r2")
    alone("keys", "rotate", "--release-key", "r", "--release-key", "r2", "--release-threshold", "2")
    kit = Kit(files={"payloads/onnxruntime/model.onnx": tiny_model()}, keys=[])
    path = kit.write(tmp_path)
    device = tmp_path / "device"
    monkeypatch.setenv("EDGEC_ROOT", str(device))
    rotate.adopt([v.data for v in alone.chain])
    said = alone("sign", path, "--sign", "r")
    assert "1 of the 2 signatures" in said.out and "refuse" in said.out
    with pytest.raises(TrustError) as caught:
        install(path)
    assert caught.value.code == "E514"
    told = alone("sign", path, "--sign", "r2", "--json").json
    assert told["release"] == {"have": 2, "threshold": 2, "version": 2}
    with reader.open(path) as opened:
        assert len(opened.signers) == 2
    both = Kit(keys=[]).write(tmp_path, "both.edge")
    assert alone("sign", both, "--sign", "r", "--sign", "r2", "--json").json["release"]["have"] == 2
    # A single key beside root metadata does not count, and the command says so.
    assert "does not count" in alone("keys", "trust", "a").out
    assert store.load_trusted().threshold == 2


DATES = {"2027-06-01": "2027-06-01T23:59:59Z", "2028-02-29": "2028-02-29T23:59:59Z",
         "2027-06-01T01:02:03Z": "2027-06-01T01:02:03Z"}  # fmt: skip


@pytest.mark.parametrize("given", DATES)
def test_dates(given: str) -> None:
    assert dates.expiry(given) == DATES[given]


@pytest.mark.parametrize(
    "given", ["2027-02-29", "27-01-01", "2027-13-01", "2027-01-01T00:00:00", "2027-1-1", "", "9" * 10]
)
def test_dates_that_are_none(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        dates.expiry(given, "--until")
    assert caught.value.code == "E221" and "--until" in caught.value.what


@pytest.mark.parametrize("seconds", [0, 951782400, 1709164800, 1790000000, 4102444799, 253402300799])
def test_times_are_the_calendars(seconds: int) -> None:
    """Leap years by the Gregorian rule, against the standard library's."""
    from datetime import UTC, datetime

    assert when.text(seconds) == datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert when.parse(when.text(seconds)) == seconds


def test_every_day_of_four_centuries() -> None:
    for day in range(0, 146_097 + 1, 13):
        assert when.parse(when.text(day * 86400)) == day * 86400


def compiled(tmp_path: Path, *flags: Any, code: int = 0) -> Said:
    (tmp_path / "m.onnx").write_bytes(tiny_model())
    arguments = ["compile", tmp_path / "m.onnx", "-t", "host", "-o", tmp_path / "m.edge", "--json", *flags]
    said = edgec(*arguments)
    assert said.code == code, said.err
    return said


def test_compile_writes_floor_expiry_and_hooks(tmp_path: Path) -> None:
    hooks = [word for hook in ("health=check-camera", "health=check-light", "pre-install=stop-belt")
             for word in ("--hook", hook)]  # fmt: skip
    compiled(tmp_path, "--sequence", "7", "--security-floor", "5", "--expires", "2030-01-01", *hooks)
    with reader.open(tmp_path / "m.edge") as opened:
        app = opened.manifest["app"]
        assert (app["sequence"], app["floor"], app["expires"]) == (7, 5, "2030-01-01T23:59:59Z")
        assert opened.manifest["hooks"] == {"health": ["check-camera", "check-light"], "pre-install": ["stop-belt"]}
    again = edgec("rebuild", tmp_path / "m.edge", "--model", tmp_path / "m.onnx")
    assert again.code == 0, again.err


@pytest.mark.parametrize(
    "flags, code",
    [
        (["--security-floor", "2"], "E219"),
        (["--expires", "soon"], "E221"),
        (["--hook", "health=/bin/sh"], "E222"),
        (["--hook", "boot=x"], "E222"),
        (["--hook", "health"], "POINT=NAME"),
    ],
)
def test_compile_refuses(tmp_path: Path, flags: list[str], code: str) -> None:
    assert code in compiled(tmp_path, *flags, code=2).err
    assert not (tmp_path / "m.edge").exists()
