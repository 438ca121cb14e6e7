"""The host's end of a session: whatever a device says, it is an answer or one clear error, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.devices import Address
from edgec.errors import BadInputError, Error, MissingError, UnreachableError
from edgec.flash import delta, device, errors, members, plan, send, session
from edgec.flash.device import Options, Target
from edgec.flash.plan import Held, Member
from edgec_runtime.agent import frames
from tests.flash import boards
from tests.runtime import agent_streams
from tests.runtime.agent_streams import answered
from tests.runtime.test_rt_agent import HELLO, request

WEIGHTS = bytes(range(256)) * 40
GOOD = frames.message({"ok": {"protocol": 1, "edgec_runtime": "0", "root": "/r", "root_version": 0}})


class Process:
    """A device's agent that says what it was told to, whatever it hears. Its own standard input."""

    def __init__(self, said: bytes, *, ends: bool = True, words: bytes = b"") -> None:
        self.stdout, self.stderr = asyncio.StreamReader(), asyncio.StreamReader()
        self.stdin, self.heard = self, bytearray()
        self.stdout.feed_data(said)
        self.stderr.feed_data(words)
        self.stderr.feed_eof()
        if ends:
            self.stdout.feed_eof()

    def write(self, data: bytes) -> None:
        self.heard += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def close(self) -> None:
        if not self.stdout.at_eof():
            self.stdout.feed_eof()


class Connection:
    """What `connect` gives."""

    def __init__(self, said: bytes, **how: object) -> None:
        self.said, self.how = said, how

    @contextlib.asynccontextmanager
    async def talk(self, command: str):
        self.process = Process(self.said, **self.how)
        yield self.process


def ask(said, question=lambda device: device.ask("status", app=None), **how):
    """Open a session with such a device and ask it something."""

    async def run():
        async with session.open(Connection(frames.PREAMBLE + said, **how), name="pi") as found:
            return await question(found)

    return asyncio.run(run())


@pytest.fixture
def recorded(tmp_path, root, monkeypatch):
    """(flash, said): what a real agent said to a flash; `flash(said)` is the host's flash to a device that says so."""
    path = boards.bundle(tmp_path / "one.edge", weights=WEIGHTS)
    with plan.open(path) as package:
        stream = HELLO + request("begin", package.envelope, app=None, size=len(package.envelope))
        for entry in package.manifest["members"]:
            data = bytes(package.data(entry["sha256"]))
            stream += request("data", data, sha256=entry["sha256"], offset=0, size=len(data))
    stream += request("commit", confirm="auto", deadline=60, tries=3) + request("trial", app="tiny")
    said = answered(root, stream, tmp_path)[2]
    monkeypatch.setattr(device, "AGAIN", frozenset())
    monkeypatch.setattr(device, "BUSY", 0)
    monkeypatch.setattr(session, "HELLO", 2)

    def flash(words):
        @contextlib.asynccontextmanager
        async def connect(address):
            yield Connection(words)

        async def run():
            with plan.open(path) as package:
                return await device.flash_one(Target("pi", Address("pi")), package, Options())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(device, "connect", connect)
            return asyncio.run(run())

    return flash, said


def test_what_a_real_device_said(recorded):
    flash, said = recorded
    done = flash(said)
    assert done.result == "committed" and done.health["ok"] and done.sent == done.needed >= len(WEIGHTS)
    assert flash(b"Welcome!\n" * 100 + said).result == "committed"


def test_mutated_devices(recorded):
    """Thousands of bytes changed, one device at a time: an answer or one of our errors, and not much memory."""
    flash, said = recorded
    stream, draw, codes = said[len(frames.PREAMBLE) :], random.Random(7), {}
    tracemalloc.start()
    for _ in range(400):
        try:
            flash(frames.PREAMBLE + agent_streams.mutated([stream], draw))
        except Error as error:
            assert error.what and error.exit_code in range(1, 12)
            codes[error.code] = codes.get(error.code, 0) + 1
    assert tracemalloc.get_traced_memory()[1] < 60 << 20
    tracemalloc.stop()
    assert codes["E955"] > 50 and codes["E1106"] > 20, codes


def test_cut_anywhere(recorded):
    flash, said = recorded
    for cut in range(0, len(said) - 1, 61):
        with pytest.raises((UnreachableError, MissingError)) as caught:
            flash(said[:cut])
        assert caught.value.code in ("E1043", "E1106"), cut


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xff\xff\xffJ", b"\0\0\0\2X{}", frames.frame(b"D", b"data"), frames.frame(b"J", b"[" * 100_000),
        frames.frame(b"J", b"\xff"), frames.message({"ok": []}), frames.message({"ok": {}, "error": {}}),
        frames.message({"at": 1}), frames.message({"at": "1"}), frames.message({"ok": {"apps": "all"}}),
        frames.message({"ok": {"apps": [1]}}), frames.message({"ok": {"apps": [{}] * 2000}}),
        frames.message({"error": {"what": 1}}), frames.message({"error": None}), frames.message({}),
        frames.frame(b"J", b"[]"), frames.message({"error": {"code": "E1", "what": "\x1b[31mred"}}),
    ],
)  # fmt: skip
def test_answers_that_are_none(answer):
    from edgec.flash import ask as ask_

    with pytest.raises(BadInputError) as caught:
        ask(GOOD + answer, ask_.states)
    assert caught.value.code == "E955" and "pi" in caught.value.what and caught.value.why


@pytest.mark.parametrize(
    "hello", [{}, {"protocol": "1"}, {"protocol": 1, "edgec_runtime": 1, "root": "", "root_version": 0}]
)
def test_who_does_not_say_who_it_is(hello):
    with pytest.raises(BadInputError, match="does not understand"):
        ask(frames.message({"ok": hello}))


def test_who_says_nothing(monkeypatch):
    monkeypatch.setattr(session, "HELLO", 0.05)
    with pytest.raises(UnreachableError, match="did not answer") as caught:
        ask(b"", ends=False)
    assert caught.value.code == "E1105"
    with pytest.raises(UnreachableError) as caught:
        ask(GOOD, lambda device: device.ask("status", app=None, patience=0.05), ends=False)
    assert caught.value.code == "E1105" and caught.value.exit_code == 11


def test_who_never_ends_greeting():
    async def run():
        async with session.open(Connection(b"x" * 200_000, ends=False), name="pi"):
            pass

    with pytest.raises(MissingError) as caught:
        asyncio.run(run())
    assert caught.value.code == "E1043"


def test_more_data_than_announced(monkeypatch):
    monkeypatch.setattr(session, "DATA_LIMIT", 1000)
    said = GOOD + frames.message({"ok": {"data": 3}}) + frames.frame(b"D", bytes(600)) * 3
    with pytest.raises(BadInputError, match="does not understand"):
        ask(said, lambda device: device.fetch("run", data=b"x", patience=1, app="tiny"))


def test_an_error_of_the_device_keeps_its_words():
    fields = {"code": "E906", "what": "not enough room in /r", "why": "full", "fix": "free some", "exit_code": 9}
    with pytest.raises(Error) as caught:
        ask(GOOD + frames.message({"error": fields}))
    error = caught.value
    assert (error.code, error.exit_code, error.why, error.fix) == ("E906", 9, "full", "free some")
    assert error.what == "pi: not enough room in /r"
    told = errors.told("pi", {**fields, "fix": "edgec-rt rollback tiny", "exit_code": 99})
    assert told.fix == "edgec rollback --on pi --app tiny" and told.exit_code == 9


def test_why_no_agent_starts():
    async def run(words):
        async with session.open(Connection(b"", words=words), name="pi"):
            pass

    with pytest.raises(MissingError, match="not set up") as caught:
        asyncio.run(run(b"sh: python3: not found\n"))
    assert caught.value.why == "sh: python3: not found"
    with pytest.raises(MissingError, match="too old"):
        asyncio.run(run(b"error[E200]: argument COMMAND: invalid choice: 'agent'\n"))


@given(
    st.dictionaries(st.sampled_from(["code", "what", "why", "fix", "exit_code"]), st.none() | st.integers() | st.text())
)
def test_told_errors_are_errors(fields):
    error = errors.told("pi", fields)
    assert isinstance(error, Error) and 1 <= error.exit_code <= 11 and str(error)


names = st.sampled_from(
    ["payloads/a/model.onnx", "payloads/a/model.int8.onnx", "payloads/b/model.onnx", "golden/x.bin"]
)
digests = st.integers(0, 5).map(lambda n: f"{n}" * 64)


@settings(max_examples=200)
@given(
    st.builds(Member, names, st.just("9" * 64), st.integers(1, 10_000), st.just(0)),
    st.lists(st.builds(Held, names, digests, st.integers(1, 10_000)), max_size=6),
    st.frozensets(digests),
)
def test_a_base_is_one_that_both_have(member, held, known):
    found = plan.choose(member, held, known)
    able = [h for h in held if h.sha256 in known and h.size >= members.LEAST]
    same = {h.sha256 for h in able if h.name == member.name}
    assert found is None or found in {h.sha256 for h in able}
    if member.size >= members.LEAST and same:
        assert found in same


def test_the_cache_keeps_what_was_used_last():
    made = [boards.np_bytes(1000, seed) for seed in range(5)]
    for n, data in enumerate(made):
        members.put(sha(data), data, limit=4000)
        path = members.folder() / sha(data)
        os.utime(path, (n, n))
    assert len(members.names()) == 4 and sha(made[0]) not in members.names()
    members.trim(2000)
    assert members.names() == {sha(made[3]), sha(made[4])} and members.get(sha(made[4])) == made[4]
    members.put(sha(b"x"), b"x")
    assert members.get(sha(b"x")) is None and members.get("0" * 64) is None
    (members.folder() / sha(made[4])).write_bytes(b"damaged")
    assert members.get(sha(made[4])) is None and sha(made[4]) not in members.names()


def sha(data):
    return hashlib.sha256(data).hexdigest()


def test_a_limit_is_kept(monkeypatch):
    """On a clock of its own: 10,000 bytes at 1,000 a second take ten seconds, whatever the pieces."""
    clock = [0.0]

    async def sleep(seconds):
        clock[0] += seconds

    async def run(piece):
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock[0])
        monkeypatch.setattr(send.asyncio, "sleep", sleep)
        begin, throttle = clock[0], send.Throttle(1000)
        for _ in range(10_000 // piece):
            await throttle.take(piece)
        monkeypatch.undo()
        return clock[0] - begin, throttle.chunk

    for piece in (100, 250, 1000):
        seconds, chunk = asyncio.run(run(piece))
        assert seconds == pytest.approx(10 - piece / 1000) and chunk == 256
    assert send.Throttle(None).chunk == send.CHUNK


def test_a_patch_is_made_once_for_many(tmp_path, monkeypatch):
    calls = []
    weights = np.random.default_rng(1).integers(-9, 9, 5000, np.int8)
    new = weights.copy()
    new[7] += 1
    old = boards.bundle(tmp_path / "one.edge", weights=weights.tobytes())
    path = boards.bundle(tmp_path / "two.edge", version=2, weights=new.tobytes())
    encode = delta.encode
    monkeypatch.setattr(delta, "encode", lambda *given, **more: calls.append(1) or encode(*given, **more))

    async def run():
        with plan.open(path, bases=[old]) as package:
            both = sha(weights.tobytes()), sha(new.tobytes())
            return await asyncio.gather(*(package.patch(*both) for _ in range(20)))

    made = asyncio.run(run())
    assert len(calls) == 1 and len(set(made)) == 1 and made[0] is not None


def test_the_numbers_of_a_device_that_lies(recorded):
    """It asks for what the bundle has not, or says that it has what it can't have."""
    flash, said = recorded
    parts = agent_streams.split(said[len(frames.PREAMBLE) :])
    begun = next(ok for _, body in parts if "members" in (ok := json.loads(body).get("ok", {})))
    for change in (
        {"identity": "0" * 64}, {"members": [["x", "0" * 64, 5, 0]]}, {"members": [[*begun["members"][0][:3], -1]]},
        {"members": 5}, {"members": [[[], {}, None, 0]]}, {"held": [[1, 2, 3]]}, {"members": [[1]] * 9000},
    ):  # fmt: skip
        said = frames.PREAMBLE + frames.frame(*parts[0]) + frames.message({"ok": {**begun, **change}})
        with pytest.raises(BadInputError) as caught:
            flash(said)
        assert caught.value.code == "E955", change
