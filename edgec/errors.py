"""The host's errors: the runtime's own, so that both sides speak the same codes and exit codes."""

from edgec_runtime.errors import (
    BadInputError,
    BudgetError,
    Error,
    GoldenError,
    MissingError,
    NotIdenticalError,
    TrustError,
    UnsupportedError,
    UsageError,
)

__all__ = [
    "BadInputError",
    "BudgetError",
    "Error",
    "GoldenError",
    "MissingError",
    "NotIdenticalError",
    "TrustError",
    "UnsupportedError",
    "UsageError",
]
