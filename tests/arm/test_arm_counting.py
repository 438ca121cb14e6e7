"""Counting: every class by machine code of known content, regions, the same numbers from run to run."""

from __future__ import annotations

import pytest

from edgec_runtime.errors import UnsupportedError
from edgec_toolchains.aarch64 import Counts

# Instruction words, as an assembler makes them, of each class; loads and stores are of [x0], which is a buffer of ours.
WORDS = {
    "dot": {
        "sdot v0.4s, v1.16b, v2.16b": 0x4E829420, "udot v0.4s, v1.16b, v2.16b": 0x6E829420,
        "sdot v0.2s, v1.8b, v2.8b": 0x0E829420, "sdot v0.4s, v1.16b, v2.4b[1]": 0x4FA2E020,
        "udot v0.4s, v1.16b, v2.4b[3]": 0x6FA2E820,
    },
    "fmla": {
        "fmla v0.4s, v1.4s, v2.4s": 0x4E22CC20, "fmls v0.4s, v1.4s, v2.4s": 0x4EA2CC20,
        "fmla v0.2d, v1.2d, v2.2d": 0x4E62CC20, "fmla v0.4s, v1.4s, v2.s[1]": 0x4FA21020,
        "fmls v0.4s, v1.4s, v2.s[1]": 0x4FA25020, "fmla v0.8h, v1.8h, v2.8h": 0x4E420C20,
        "fmla v0.8h, v1.8h, v2.h[1]": 0x4F121020, "fmla s0, s1, v2.s[1]": 0x5FA21020,
        "fmadd s0, s1, s2, s3": 0x1F020C20,
        "fnmsub d0, d1, d2, d3": 0x1F628C20,
    },
    "smlal": {
        "smlal v0.8h, v1.8b, v2.8b": 0x0E228020, "umlal2 v0.8h, v1.16b, v2.16b": 0x6E228020,
        "smull v0.8h, v1.8b, v2.8b": 0x0E22C020, "smlsl v0.4s, v1.4h, v2.4h": 0x0E62A020,
        "smlal v0.4s, v1.4h, v2.h[1]": 0x0F522020, "smull2 v0.4s, v1.8h, v2.h[1]": 0x4F52A020,
        "umlal v0.4s, v1.4h, v2.h[1]": 0x2F522020,
    },
    "simd": {
        "add v0.4s, v1.4s, v2.4s": 0x4EA28420, "mul v0.4s, v1.4s, v2.4s": 0x4EA29C20,
        "fmul v0.4s, v1.4s, v2.4s": 0x6E22DC20,
        "fadd s0, s1, s2": 0x1E222820, "mla v0.4s, v1.4s, v2.s[1]": 0x6FA20020, "movi v0.4s, #1": 0x4F000420,
        "sqrdmulh v0.4s, v1.4s, v2.4s": 0x6EA2B420, "saddlp v0.8h, v1.16b": 0x4E202820,
    },
    "loads": {
        "ldr x1, [x0]": 0xF9400001, "ldr q0, [x0]": 0x3DC00000, "ldp x1, x2, [x0]": 0xA9400801,
        "ldp q0, q1, [x0]": 0xAD400400,
        "ld1 {v0.16b}, [x0]": 0x4C407000, "ldrb w1, [x0]": 0x39400001, "ldrsw x1, [x0]": 0xB9800001,
        "ldur x1, [x0, #8]": 0xF8408001, "ldar x1, [x0]": 0xC8DFFC01, "ldr d0, [x0]": 0xFD400000,
        "ld1r {v0.4s}, [x0]": 0x4D40C800, "ldadd x1, x2, [x0]": 0xF8210002,
    },
    "stores": {
        "str x1, [x0]": 0xF9000001, "str q0, [x0]": 0x3D800000, "stp x1, x2, [x0]": 0xA9000801,
        "st1 {v0.16b}, [x0]": 0x4C007000,
        "strb w1, [x0]": 0x39000001, "stlr x1, [x0]": 0xC89FFC01, "stur q0, [x0, #16]": 0x3C810000,
    },
    "none": {
        "prfm pldl1keep, [x0]": 0xF9800000, "prfm pldl1keep, [x0, x1]": 0xF8A16800, "add x1, x1, #1": 0x91000421,
        "mul x1, x2, x3": 0x9B037C41,
    },
}  # fmt: skip
MMLA = {
    "smmla v0.4s, v1.16b, v2.16b": 0x4E82A420,
    "ummla v0.4s, v1.16b, v2.16b": 0x6E82A420,
    "usmmla v0.4s, v1.16b, v2.16b": 0x4E82AC20,
}
MIXED = {
    "usdot v0.4s, v1.16b, v2.16b": 0x4E829C20,
    "usdot v0.4s, v1.16b, v2.4b[1]": 0x4FA2F020,
    "sudot v0.4s, v1.16b, v2.4b[1]": 0x4F22F020,
}
REPEATED = 500
SLACK = 20  # instructions by which the interpreter itself differs from call to call
# For each word: REPEATED of it + RET in memory of its own, called with x0 pointing at a buffer, between two marks.
PROGRAM = """
import ctypes, mmap, sys
from marks import mark
code = mmap.mmap(-1, 65536, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
start = ctypes.addressof(ctypes.c_char.from_buffer(code))
buffer = ctypes.create_string_buffer(256)
where = ctypes.addressof(buffer) + 64 & ~63
def measure(call, tag):
    mark(60000); call(where); mark(tag)

for tag, word in enumerate(sys.argv[1:]):
    words = [int(word, 16)] * 500 if word != "-" else []
    data = b"".join(word.to_bytes(4, "little") for word in [*words, 0xD65F03C0])
    code[2048 * tag : 2048 * tag + len(data)] = data
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(start + 2048 * tag)
    for _ in range(20):  # until the interpreter has specialised its own code
        measure(call, 60001)
    measure(call, tag)
"""


def counted(core, words):
    """The counts of REPEATED of each of these words alone: of a call with them, less one without."""
    ran = core.python(["-c", PROGRAM, "-", "-", *(f"{word:x}" for word in words.values())])
    return {text: ran.region(tag) - ran.region(1) for tag, text in enumerate(words, 2)}


@pytest.mark.parametrize("kind", WORDS)
def test_each_class_by_machine_code(a76, kind):
    for text, counts in counted(a76, WORDS[kind]).items():
        assert abs(counts.instructions - REPEATED) < SLACK, text
        for name in ("dot", "fmla", "smlal", "loads", "stores", "mmla", "sve"):
            expected = REPEATED if name == kind else 0
            assert abs(getattr(counts, name) - expected) < SLACK, (text, name, counts)
        vector = kind in ("dot", "fmla", "smlal", "simd")
        assert abs(counts.simd - REPEATED * vector) < SLACK, (text, counts)


def test_matrix_products_and_mixed_signs_on_i8mm(core):
    counts = counted(core("i8mm"), MMLA | MIXED)
    assert all(counts[text].mmla == REPEATED and counts[text].dot == 0 for text in MMLA)
    assert all(counts[text].dot == REPEATED and counts[text].mmla == 0 for text in MIXED)


@pytest.mark.parametrize("name", ["cortex-a53", "cortex-a72"])
def test_a_core_without_dot_products_dies_of_one_and_says_so(core, name):
    with pytest.raises(UnsupportedError) as caught:
        core(name).python(["-c", PROGRAM, f"{WORDS['dot']['sdot v0.4s, v1.16b, v2.16b']:x}"])
    assert "illegal instruction" in caught.value.what and "asimd" in caught.value.why
    assert caught.value.exit_code == 4


def test_regions_add_up_and_repeat_to_the_digit(a76):
    program = "from marks import mark\nmark(1)\nx = sum(range(10000))\nmark(2)\nmark(2)\nprint(x)"
    a76.python(["-c", program])  # bytecode of what it imports is cached
    first, second = (a76.python(["-c", program]) for _ in range(2))
    assert first.stdout == "49995000\n"
    assert [region.tag for region in first.regions] == [1, 2, 2, None]
    assert first.region(2).instructions == second.region(2).instructions > 10_000
    assert first.counts == sum((region.counts for region in first.regions), Counts())


def test_what_the_guest_sees(core):
    for name, model in (("cortex-a53", "0xd03"), ("cortex-a76", "0xd0b")):
        ran = core(name).python(["-c", "print(open('/proc/cpuinfo').read()); import os; print(os.environ)"])
        assert f"CPU part\t: {model}" in ran.stdout and "LD_LIBRARY_PATH" not in ran.stdout


def test_the_runtime_knows_the_core(core):
    import edgec_runtime

    folder = edgec_runtime.__path__[0].rpartition("/")[0]
    program = (
        "from edgec_runtime import machine; m = machine.this(); print(m.arch, 'asimddp' in m.isa, 'i8mm' in m.isa)"
    )
    said = [
        core(n).python(["-c", program], paths=[folder]).stdout.split() for n in ("cortex-a72", "cortex-a76", "i8mm")
    ]
    assert said == [["aarch64", "False", "False"], ["aarch64", "True", "False"], ["aarch64", "True", "True"]]


def test_failures_come_with_the_programs_own_words(a76):
    with pytest.raises(UnsupportedError, match="exit status 3"):
        a76.python(["-c", "import sys; sys.exit(3)"])
    with pytest.raises(UnsupportedError) as caught:
        a76.python(["-c", "raise KeyError('what it was')"])
    assert "what it was" in caught.value.why
    assert a76.python(["-c", "import os; os.kill(os.getpid(), 15)"], check=False).returncode == -15
    with pytest.raises(UnsupportedError, match="took more than"):
        a76.python(["-c", "while True: pass"], timeout=1)
