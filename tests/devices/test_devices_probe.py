"""What a device says of itself, in facts; what is surprising in them; and the board file that comes of it."""

from __future__ import annotations

import asyncio
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.devices import Address, board, connect, probe
from edgec.devices.probe import read
from edgec.devices.setup import choose_engine, refuse
from edgec.devices.surprises import surprises
from edgec.errors import MissingError, UnsupportedError
from edgec_targets import registry
from tests.devices import probes

RK3588 = ((probes.A76, "0xd05"),) * 4 + ((probes.A76, "0xd0b"),) * 4


def said(**sections):
    return surprises(read(probes.text(**sections)), now=1_800_000_000)


def stops(**sections):
    return [each.what for each in said(**sections) if each.level == "stop"]


def test_a_raspberry_pi_3():
    found = read(probes.text())
    assert (found.arch, found.bits, found.cores, found.cpu) == ("aarch64", 64, 4, "Cortex-A53")
    assert found.isa == ("fp", "asimd", "evtstrm", "crc32", "cpuid")
    assert (found.memory, found.glibc, found.libc) == (930000 * 1024, "2.36", "glibc")
    assert found.python.text == "3.11.2" and found.disk == 20000000 * 1024
    assert found.mount == "rw,noatime" and found.writable and found.root == "/home/pi/.local/share/edgec"
    assert board.known(found) == "rpi3" and stops() == []
    assert "no dot products" in said()[0].what


def test_cores_of_two_kinds():
    mixed = ((probes.A76 + " extra", "0xd05"), *RK3588[1:])
    found = read(probes.text(cores=mixed))
    assert (found.cores, found.big, found.cpu) == (8, 4, "Cortex-A55 + Cortex-A76")
    assert "extra" not in found.isa  # only what all cores have
    table = board.fields(found, date="2026-11-24")
    assert table["threads"] == 4 and "spinning" not in table


@pytest.mark.parametrize(
    "sections, words",
    [
        ({"python": probes.python(bits=32)}, "programs are 32-bit, though its kernel is 64-bit (aarch64)"),
        ({"python": None, "shell": " 127 69 76 70 1"}, "programs are 32-bit"),
        ({"uname": "Linux\narmv7l\n6.1", "python": probes.python(bits=32)}, "architecture is armv7l"),
        ({"uname": "Linux\nriscv64\n6.1"}, "architecture is riscv64"),
        ({"python": None}, "it has no Python"),
        ({"python": probes.python((3, 7, 3))}, "Python is 3.7.3, at least 3.9"),
        ({"python": probes.python(missing=["ctypes"])}, "lacks ctypes"),
        ({"python": probes.python(libstdcxx="")}, "no libstdc++"),
        ({"libc": "musl libc (aarch64)\n/lib/ld-musl-aarch64.so.1", "python": probes.python(libc="")}, "is musl"),
        ({"both": "/home/pi/.local/share/edgec"}, "two root folders"),
        ({"root": "/opt/e\n/opt\nforbidden"}, "may not write to /opt/e"),
        ({"mounts": "/dev/root / ext4 ro 0 0"}, "read-only"),
        ({"mounts": "/dev/root / ext4 rw 0 0\nx /home ext4 rw,noexec 0 0"}, "noexec"),
        ({"disk": "F 1 2 3 4 5\n/dev/x 9 8 4000 1% /"}, "4 MB are free"),
    ],
)
def test_what_stops(sections, words):
    assert any(words in what for what in stops(**sections)), stops(**sections)
    with pytest.raises(UnsupportedError) as error:
        refuse(Address("pi"), read(probes.text(**sections)))
    assert error.value.exit_code == 4 and error.value.fix


def test_what_is_worth_a_word():
    notes = said(clock="0", meminfo="MemTotal: 120000 kB", python=probes.python(packages={"onnxruntime": "1.21.0"}))
    whole = " ".join(each.what for each in notes)
    assert "clock is 20,833 days off" in whole and "117 MiB" in whole and "1.21.0 dies of an illegal" in whole


def test_the_newest_python_that_is_enough():
    lines = "\n".join([probes.python((3, 7, 3)), probes.python((3, 12, 1), path="/usr/bin/python3.12"), "{broken"])
    assert read(probes.text(python=lines)).python.path == "/usr/bin/python3.12"


@pytest.mark.parametrize(
    "libc, expected",
    [
        ("ldd (Ubuntu GLIBC 2.35-0ubuntu3.8) 2.35", ("glibc", "2.35")),
        ("ldd (GNU libc) 2.28", ("glibc", "2.28")),
        ("glibc 2.31", ("glibc", "2.31")),
        ("sh: ldd: not found", ("", "")),
    ],
)
def test_c_libraries(libc, expected):
    found = read(probes.text(libc=libc, python=None))
    assert (found.libc, found.glibc) == expected


def test_a_board_file_compiles(tmp_path):
    found = read(probes.text())
    text = board.toml(board.fields(found, date="2026-11-24"), ("a note\nof two lines",))
    (tmp_path / "mine.toml").write_text(text)
    made = registry.board(str(tmp_path / "mine.toml"))
    assert (made.name, made.target, made.spinning, made.threads) == ("mine", "arm_cpu", False, 4)
    assert set(made.engines) == {"onnxruntime", "litert", "ncnn", "tvm"} and "2026-11-24" in made.source
    assert text.startswith("# a note of two lines\n") and tomllib.loads(text)["memory"] == 930000 * 1024


def test_strange_names_survive_the_file():
    found = read(probes.text(model='A "board"\\ with \U0001f600 \x7f'))
    assert tomllib.loads(board.toml(board.fields(found, date="d")))["title"] == found.model


def test_engines_that_the_system_can_not_have():
    old = {"libc": "glibc 2.31", "python": probes.python((3, 9, 2), libc="glibc 2.31")}
    found = board.engines(read(probes.text(**old)))
    assert found["onnxruntime"] == ">=1.18,!=1.21.0,!=1.21.1,<1.33" and "litert" not in found
    ancient = {"libc": "glibc 2.27", "python": probes.python((3, 9, 2), libc="glibc 2.27")}
    found = board.engines(read(probes.text(**ancient)))
    assert found["onnxruntime"] == ">=1.18,!=1.21.0,!=1.21.1,<1.20" and "litert" not in found
    here = {"libc": "glibc 2.31", "python": probes.python(libc="glibc 2.31", packages={"ai-edge-litert": "2.3.0"})}
    assert "litert" in board.engines(read(probes.text(**here)))


def test_which_engine_is_sent():
    assert choose_engine(read(probes.text()), None) == "litert"
    older = read(probes.text(libc="glibc 2.31", python=probes.python(libc="glibc 2.31")))
    assert choose_engine(older, None) == "onnxruntime"  # LiteRT's library needs glibc 2.35
    with pytest.raises(UnsupportedError, match="litert can't run"):
        choose_engine(older, "litert")
    with pytest.raises(UnsupportedError) as error:
        choose_engine(read(probes.text(libc="glibc 2.17", python=probes.python(libc="glibc 2.17"))), None)
    assert error.value.exit_code == 4 and "2.17" in error.value.why
    with pytest.raises(MissingError):
        choose_engine(older, "tvm")


def test_no_board_file_for_what_edgec_does_not_compile_for():
    for sections in ({"python": probes.python(bits=32)}, {"cpuinfo": ""}, {"uname": ""}):
        with pytest.raises(UnsupportedError) as error:
            board.fields(read(probes.text(**sections)), date="d")
        assert error.value.exit_code == 4


def test_every_known_board_is_one():
    assert set(board.MODELS.values()) <= set(registry.boards())


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.data())
def test_whatever_a_device_says_is_read(data):
    whole = probes.text()
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 400)))
    found = read(whole[:start] + data.draw(st.text(max_size=40)) + whole[end:])
    surprises(found, now=0.0)
    found.as_dict()


def test_a_real_machine(board):
    async def look():
        async with connect(Address.parse("pi")) as device:
            return await probe(device), await probe(device, root="~/other")

    import os
    import platform

    found, other = asyncio.run(look())
    assert found.machine == platform.machine() and found.bits == 64 and found.libc in ("glibc", "musl")
    assert found.root == f"{board.home}/edgec" and found.writable and found.disk > 0
    assert other.root == f"{board.home}/other"
    assert found.cores == len(os.sched_getaffinity(0)) and found.memory > 1e8 and found.isa and found.kernel


def test_a_device_without_a_posix_shell(server, user, tmp_path):
    from edgec_toolchains.boards import LocalBoard

    shell = tmp_path / "shell"
    shell.write_text("#!/bin/sh\necho '% Unknown command.'\n")
    shell.chmod(0o755)
    with LocalBoard(server, tmp_path / "board", shell=shell) as board:
        user.config(board.config("pi"))
        user.known(board.known_host())

        async def look():
            async with connect(Address.parse("pi")) as device:
                await probe(device)

        with pytest.raises(UnsupportedError, match="does not run a POSIX shell script") as error:
            asyncio.run(look())
        assert "Unknown command" in error.value.why
