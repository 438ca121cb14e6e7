"""The triangular factor of an inverse, and what the layer-wise solution holds in memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgec.quantize.corrections.factor import inverse_factor
from edgec.quantize.corrections.least_squares import Moments, round_in_turn, solve


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 50), st.integers(0, 1000))
def test_it_is_the_factor_of_the_inverse_for_any_block(d: int, groups: int, block: int, seed: int) -> None:
    a = np.random.default_rng(seed).standard_normal((groups, d, 2 * d))
    matrix = a @ a.transpose(0, 2, 1) + 0.1 * np.eye(d)
    factor = inverse_factor(matrix.copy(), block=block)
    assert np.array_equal(factor, np.triu(factor)) and (np.diagonal(factor, axis1=1, axis2=2) > 0).all()
    np.testing.assert_allclose(factor.transpose(0, 2, 1) @ factor, np.linalg.inv(matrix), rtol=1e-6, atol=1e-8)


def test_a_matrix_that_is_not_positive_definite_is_refused() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        inverse_factor(np.diag([1.0, -1.0, 1.0])[None])


def test_the_solution_takes_two_matrices_of_its_size_and_no_more() -> None:
    """It took seven, a gigabyte for a layer of 4,320 features (PP-OCR's recogniser)."""
    d, m = 640, 8
    rng = np.random.default_rng(0)
    moments = Moments.empty(1, d, m)
    moments.add(rng.standard_normal((1, 2 * d, d), np.float32), rng.standard_normal((2 * d, m), np.float32))
    start = rng.standard_normal((1, m, d))
    tracemalloc.start()
    made = round_in_turn(solve(moments, start, 10.0), np.full((1, m), 0.02), moments.centred()[0], 127)
    moments.error(made * 0.02)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * d * d * 8


def test_no_positions_are_taken_once_the_sums_are_settled() -> None:
    moments = Moments.empty(1, 2, 1)
    moments.add(np.ones((1, 4, 2), np.float32), np.ones((4, 1), np.float32))
    moments.centred()
    with pytest.raises(ValueError, match="settled"):
        moments.add(np.ones((1, 4, 2), np.float32), np.ones((4, 1), np.float32))
