"""Tiles and CPUs of compiled kernels: pure functions, no TVM needed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec_runtime.errors import UnsupportedError
from edgec_targets import registry
from edgec_targets.emitters.tvm.cpu import cpu
from edgec_targets.emitters.tvm.tiles import Nest, Tile, Vectors, candidates, cost

CPUS = [Vectors(4, 32, by_lane=True), Vectors(8, 16, by_lane=False), Vectors(16, 32, by_lane=False)]
sizes = st.integers(1, 230)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.builds(Nest, sizes, sizes, st.integers(1, 1300), st.sampled_from([1, 9, 25, 40]), sizes, st.just(False)),
    st.sampled_from(CPUS),
)
def test_tiles_divide_what_they_tile_and_the_cheapest_comes_first(nest, vectors):
    found = candidates(nest, vectors)
    assert found and found == candidates(nest, vectors)
    for tile in found:
        assert nest.rows % tile.rows == nest.columns % tile.columns == nest.channels % tile.channels == 0
        assert nest.inputs % tile.steps == 0 and tile.channels % vectors.width(tile.channels) == 0
        assert Tile.parse(str(tile)) == tile
    costs = [cost(nest, tile, vectors) for tile in found]
    assert costs == sorted(costs)


@pytest.mark.parametrize("channels", [4, 8, 16, 64, 100])
def test_sums_fit_into_the_registers(channels):
    for vectors in CPUS:
        for tile in candidates(Nest(14, 14, channels, 9, 16, depthwise=False), vectors):
            wide = tile.channels // vectors.width(tile.channels)
            assert wide * tile.rows * tile.columns < vectors.registers


def test_a_depthwise_convolution_takes_no_vector_of_inputs():
    found = candidates(Nest(14, 14, 64, 9, 1, depthwise=True), CPUS[0])
    assert {tile.steps for tile in found} == {1}


@pytest.mark.parametrize("text", ["", "1x2", "axbxc/1", "1x2x3"])
def test_a_tile_that_is_none(text):
    with pytest.raises(ValueError):
        Tile.parse(text)


def test_vectors_are_powers_of_two_but_for_a_few_channels():
    neon, wide = CPUS[0], CPUS[2]
    assert [neon.width(n) for n in (64, 12, 6, 2, 1)] == [4, 4, 2, 2, 1]
    assert [wide.width(n) for n in (64, 48, 40, 24, 12, 10, 250)] == [16, 16, 8, 8, 4, 10, 2]


def test_arm_code_needs_neon_alone_and_is_tuned_for_the_core():
    zero, five, any_ = (cpu(registry.board(name)) for name in ("rpi-zero2w", "rpi5", "generic-armv8.0"))
    assert {c.isa for c in (zero, five, any_)} == {("asimd",)}
    assert (zero.tune, five.tune, any_.tune) == ("cortex-a53", "cortex-a76", "generic")
    assert "-dotprod" in five.features and zero.glibc == "2.36" and any_.glibc == "2.28"


def test_x86_code_needs_the_level_that_the_board_has():
    v3, v4 = (cpu(registry.board(f"generic-x86-64-{level}")) for level in ("v3", "v4"))
    assert "avx512f" in v4.isa and "avx512f" not in v3.isa and {"fma", "avx2"} <= set(v3.isa)
    assert set(v4.isa) <= set(registry.board("generic-x86-64-v4").isa)


def test_another_architecture_is_refused():
    import dataclasses

    with pytest.raises(UnsupportedError, match="riscv64"):
        cpu(dataclasses.replace(registry.board("rpi5"), arch="riscv64"))
