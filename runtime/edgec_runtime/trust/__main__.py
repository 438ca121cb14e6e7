"""`python -m edgec_runtime.trust`: root metadata from standard input, as `edgec devices setup` sends it.

Standard input is JSON, {"chain": [base64 of an envelope, …]}, oldest first; what comes out is JSON too: {"version",
"before"} of the root metadata that is trusted now and was trusted before (0: none), or {"error": …} with the exit code.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Follow or pin the chain. Returns the exit code."""
    import binascii
    import json

    from edgec_runtime.errors import BadInputError, Error
    from edgec_runtime.trust import rotate
    from edgec_runtime.trust.store import MAX_ROOT

    try:
        try:
            given = json.loads(sys.stdin.buffer.read(rotate.MAX_CHAIN * MAX_ROOT * 2))
            chain = [binascii.a2b_base64(text) for text in given["chain"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadInputError(
                "standard input is no chain of root metadata", str(error), "`edgec devices setup` sends it", code="E904"
            ) from None
        before = rotate.current()
        version = rotate.adopt(chain)
        print(json.dumps({"version": version, "before": before.version if before else 0}))
        return 0
    except Error as error:
        print(json.dumps({"error": error.as_dict()}))
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
