"""The crash laboratory itself: what it logs, which states it makes of a log, and that it finds what is bad."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_toolchains.crashlab import lab, log, mounts, protocols, states
from edgec_toolchains.crashlab.disk import Disk
from edgec_toolchains.crashlab.log import FLUSH, MARK, WRITE, ZERO, Entry

OBSTACLE = mounts.obstacle()
needs_mounts = pytest.mark.skipif(bool(OBSTACLE), reason=f"crash laboratory: {OBSTACLE}")
SIZE = 4 * states.BLOCK


def write(offset: int, data: bytes) -> Entry:
    return Entry(WRITE, offset, len(data), data)


FLUSHED = Entry(FLUSH, 0, 0)


def mark(text: str) -> Entry:
    return Entry(MARK, 0, len(text.encode()), text.encode())


def found(entries: list[Entry], **how: int) -> set[tuple[bytes, tuple[str, ...]]]:
    """The states of a small disk of four blocks, each as the first byte of every block."""
    made = states.crashes(bytes(SIZE), entries, **how)
    return {(bytes(crash.image[:: states.BLOCK]), crash.marks) for crash in made}


def test_what_was_flushed_is_in_every_later_state() -> None:
    entries = [write(0, b"a"), FLUSHED, mark("a"), write(4096, b"b"), write(8192, b"c")]
    all_found = found(entries)
    assert all_found == {
        (b"\0\0\0\0", ()), (b"a\0\0\0", ()), (b"a\0\0\0", ("a",)), (b"ab\0\0", ("a",)), (b"a\0c\0", ("a",)),
        (b"abc\0", ("a",)),
    }  # fmt: skip


def test_a_large_write_may_be_torn_between_blocks_but_not_within_one() -> None:
    entries = [write(2048, b"x" * 6144)]
    made = {bytes(c.image[:12288:2048]) for c in states.crashes(bytes(SIZE), entries)}
    assert made == {b"\0\0\0\0\0\0", b"\0x\0\0\0\0", b"\0\0xx\0\0", b"\0xxx\0\0"}


def test_a_later_write_of_a_span_may_be_lost_while_an_earlier_one_of_the_same_block_is_kept() -> None:
    assert {b for b, _ in found([write(0, b"1"), write(0, b"2")])} == {b"\0\0\0\0", b"1\0\0\0", b"2\0\0\0"}


def test_zeroed_ranges_and_equal_states() -> None:
    entries = [write(0, b"a"), FLUSHED, Entry(ZERO, 0, 4096), FLUSHED, write(0, b"a"), FLUSHED]
    assert found(entries) == {(b"\0\0\0\0", ()), (b"a\0\0\0", ())}


BLOCKS = st.integers(0, 3).map(lambda block: block * states.BLOCK)
ENTRIES = st.lists(st.one_of(st.builds(write, BLOCKS, st.sampled_from([b"a", b"b"])), st.just(FLUSHED)), max_size=9)


@settings(max_examples=60)
@given(ENTRIES, st.integers(0, 3))
def test_states_are_those_of_the_definition(entries: list[Entry], seed: int) -> None:
    """Each keeps all that was flushed before and only what was written; every prefix is there; none is twice."""
    made = [bytes(crash.image) for crash in states.crashes(bytes(SIZE), entries, seed=seed)]
    assert len(made) == len(set(made))
    image, allowed, prefixes = bytearray(SIZE), set(), {bytes(SIZE)}
    for span in states.spans(entries):
        possible = {bytes(image)}
        for entry in span:
            possible |= {b[: entry.offset] + entry.data + b[entry.offset + entry.size :] for b in possible}
            image[entry.offset : entry.offset + entry.size] = entry.data
            prefixes.add(bytes(image))
        allowed |= possible
    assert prefixes <= set(made) <= allowed


@settings(max_examples=60)
@given(ENTRIES.filter(bool))
def test_logs_come_back(tmp_path_factory: pytest.TempPathFactory, entries: list[Entry]) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(b"".join(log.HEAD.pack(e.kind, e.offset, e.size) + e.data for e in [*entries, mark("é")]))
    *same, last = log.read(path)
    assert same == entries and last.text == "é"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        list(log.read(path))


def request(opcode: int, body: bytes = b"") -> bytes:
    return struct.pack("<IIQQIIII", 40 + len(body), opcode, 7, 1, 0, 0, 0, 0) + body


def test_the_disk_answers_and_logs_in_order(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(8192))
    told: list[bytes] = []
    descriptor = os.open(image, os.O_RDWR)
    disk = Disk(descriptor, told.append)
    asked = [
        request(16, struct.pack("<QQIIQII", 1, 4096, 3, 0, 0, 0, 0) + b"abc"),
        request(20, bytes(16)),
        request(21, struct.pack("<II", 2, 0) + b"user.mark\0ok"),
        request(43, struct.pack("<QQQII", 1, 4097, 1, 3, 0)),
        request(15, struct.pack("<QQIIQII", 1, 4096, 4, 0, 0, 0, 0)),
    ]
    replies = [disk.answer(one) or b"" for one in asked]
    assert [struct.unpack_from("<IiQ", reply) for reply in replies] == [
        (24, 0, 7), (16, 0, 7), (16, 0, 7), (16, 0, 7), (20, 0, 7),
    ]  # fmt: skip
    assert replies[-1][16:] == b"a\0c\0"
    (tmp_path / "log").write_bytes(b"".join(told))
    kinds = [(e.kind, e.offset, e.size, e.data) for e in log.read(tmp_path / "log")]
    assert kinds == [(WRITE, 4096, 3, b"abc"), (FLUSH, 0, 0, b""), (MARK, 0, 2, b"ok"), (ZERO, 4097, 1, b"")]
    assert disk.answer(request(2)) is None  # FORGET
    assert struct.unpack_from("<Ii", disk.answer(request(99)) or b"")[1] < 0
    assert struct.unpack_from("<Ii", disk.answer(request(21, struct.pack("<II", 1, 0) + b"other\0x")) or b"")[1] < 0
    os.close(descriptor)


@needs_mounts
@pytest.mark.parametrize("file_system", [f.name for f in lab.FILE_SYSTEMS])
@pytest.mark.parametrize("protocol", [*protocols.BAD, protocols.GOOD])
def test_bad_protocols_are_found_and_the_good_one_is_not(tmp_path: Path, protocol: str, file_system: str) -> None:
    script = (
        "import json, sys\nfrom pathlib import Path\nfrom edgec_toolchains import crashlab as lab\n"
        "from edgec_toolchains.crashlab import protocols\nlab.isolate()\nfolder = Path(sys.argv[3])\n"
        "system = next(f for f in lab.FILE_SYSTEMS if f.name == sys.argv[2])\n"
        "recording = lab.record(folder, system, protocols.workload(sys.argv[1]))\n"
        "verdict = lab.check(recording, folder, protocols.judge)\n"
        "print(json.dumps([verdict.crashes, {w: len(l) for w, l in verdict.problems.items()}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, protocol, file_system, tmp_path], capture_output=True, text=True, check=True
    )
    crashes, problems = json.loads(done.stdout)
    assert crashes >= 25
    assert not any(why.startswith("can't be mounted") for why in problems)
    expected = {
        "streamed": {"a version is torn"},
        "no-fsync": {"no version is there"},
        "no-dir-fsync": {"an acknowledged version is lost"},
        "full": set(),
    }[protocol]
    assert expected <= set(problems) and bool(problems) == (protocol != protocols.GOOD)
