"""The host's errors: the runtime's own, so that both sides speak the same codes and exit codes."""

from edgec_runtime.errors import (
    BadInputError,
    BudgetError,
    Error,
    GoldenError,
    MissingError,
    NotIdenticalError,
    RolledBackError,
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
    "RolledBackError",
    "TrustError",
    "UnreachableError",
    "UnsupportedError",
    "UsageError",
]


class UnreachableError(Error):
    """A machine that does not answer, is not who it was, does not let us in, or was lost on the way (exit 11)."""

    code, exit_code = "E1100", 11
