"""The triangular factor of an inverse, in the memory of one matrix.

GPTQ rounds with the upper R of H⁻¹ = Rᵀ R (Frantar et al. 2022, arXiv:2210.17323, section 3). Inverting H and factoring
the inverse takes four matrices of its size at once, which for some thousand features is more than all else together.
With H = U Uᵀ (U upper: a Cholesky factorisation from the last row up), R = U⁻¹; both steps are done here block by block
over the matrix that is given (Golub and Van Loan, "Matrix Computations", sections 4.2 and 3.1).
"""

from __future__ import annotations

import numpy as np

_BLOCK = 128


def inverse_factor(matrix: np.ndarray, *, block: int = _BLOCK) -> np.ndarray:
    """R, upper triangular with positive diagonal, of matrix⁻¹ = Rᵀ R. The matrix is overwritten.

    Args:
        matrix: (groups, d, d) float64, symmetric and positive definite.
        block: columns worked on at once.

    Raises:
        numpy.linalg.LinAlgError: a matrix is not positive definite in float64.
    """
    d = matrix.shape[1]
    starts = list(range(0, d, block))
    for first in reversed(starts):  # H = U Uᵀ, from the last block column to the first
        last = min(first + block, d)
        if last < d:
            right = matrix[:, first:last, last:]
            matrix[:, :last, first:last] -= matrix[:, :last, last:] @ right.transpose(0, 2, 1)
        # The corner is U Uᵀ too: turned by half a turn it is an ordinary Cholesky factorisation.
        corner = np.linalg.cholesky(matrix[:, first:last, first:last][:, ::-1, ::-1])[:, ::-1, ::-1]
        matrix[:, :first, first:last] = matrix[:, :first, first:last] @ np.linalg.inv(corner).transpose(0, 2, 1)
        matrix[:, first:last, first:last] = corner
        matrix[:, last:, first:last] = 0
    for first in starts:  # R = U⁻¹, from the first block column to the last
        last = min(first + block, d)
        corner = np.linalg.inv(matrix[:, first:last, first:last])
        if first:
            above = matrix[:, :first, :first] @ matrix[:, :first, first:last]
            matrix[:, :first, first:last] = -(above @ corner)
        matrix[:, first:last, first:last] = np.triu(corner)
    return matrix
