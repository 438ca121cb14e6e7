"""What a shared library needs, read from its ELF file; a damaged one is a ValueError and nothing else."""

from __future__ import annotations

import contextlib
import sys
from struct import pack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime import elf
from tests.runtime import elf_files


@pytest.mark.parametrize("bits, machine, name", [(64, 183, "aarch64"), (64, 62, "x86_64"), (32, 40, "arm")])
def test_what_a_library_needs(bits, machine, name):
    found = elf.read(elf_files.library(machine, bits=bits))
    assert (found.machine, found.bits, found.soname) == (name, bits, "libtiny.so")
    assert found.needed == ("libc.so.6", "libstdc++.so.6")
    assert found.versions["libc.so.6"] == ("GLIBC_2.17", "GLIBC_2.34", "GLIBC_PRIVATE")
    assert found.floor() == "2.34" and found.floor("GLIBCXX_") == "3.4.30" and found.floor("CXXABI_") == ""


def test_versions_are_compared_as_numbers():
    data = elf_files.library(versions={"libc.so.6": ("GLIBC_2.4", "GLIBC_2.17", "GLIBC_2.9")})
    assert elf.read(data).floor() == "2.17"


def test_this_python_is_one(tmp_path):
    found = elf.read(sys.executable)
    assert found.bits == 64 and "libc.so.6" in found.needed and found.floor()


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"MZ" + bytes(100), b"\x7fELF\x02\x02" + bytes(100)])
def test_no_elf_file(tmp_path, data):
    path = tmp_path / "lib.so"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="ELF"):
        elf.read(path)


def test_lists_of_versions_that_overlap():
    """Each of 65,535 libraries lists the same 65,535 versions: refused, rather than read four billion times."""
    data = bytearray(elf_files.library(versions={"libc.so.6": ("GLIBC_2.17",) * 65535}))
    need = data.index(pack("<HH", 1, 65535))
    data[need + 12 : need + 16] = pack("<I", 16)  # the next one starts at the list of this one
    data[need + 16 : need + 16 + 65534 * 16] = pack("<HHIII", 1, 65535, 1, 16, 16) * 65534
    count = data.index(pack("<QQ", 0x6FFFFFFF, 1))
    data[count : count + 16] = pack("<QQ", 0x6FFFFFFF, 65535)
    with pytest.raises(ValueError, match="longer than its table"):
        elf.read(bytes(data))


@pytest.mark.parametrize("bits", [32, 64])
def test_numbers_that_no_file_reaches(bits):
    """Offsets and sizes of all ones, wherever one may stand: beyond what C's own integers hold."""
    whole = elf_files.library(bits=bits)
    for place in range(16, len(whole) - 8, 4):
        data = whole[:place] + b"\xff" * 8 + whole[place + 8 :]
        with contextlib.suppress(ValueError):
            elf.read(data)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_file_is_a_value_error(data):
    raw = bytearray(elf_files.library(bits=data.draw(st.sampled_from([32, 64]))))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(raw)))
    for bytes_ in (bytes(raw), bytes(raw[:cut])):
        try:
            found = elf.read(bytes_)
            found.floor()
        except ValueError:
            pass
