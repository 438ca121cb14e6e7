"""On the device: `python3 -m edgec_runtime.sealed key` and `… add MODEL.edge.keys`."""

from __future__ import annotations

import sys

from edgec_runtime import root
from edgec_runtime.errors import Error, UsageError


def main(arguments: list[str]) -> int:
    """Print the device's public key (made if there is none yet), or keep this device's part of a file of keys."""
    from edgec_runtime.sealed import device_key, wrapped

    try:
        where = root.find()
        if arguments == ["key"]:
            print(device_key.create(where).hex())
        elif len(arguments) == 2 and arguments[0] == "add":
            with open(arguments[1], "rb") as file:
                print(wrapped.add(where, wrapped.decode(file.read(wrapped.MAX_FILE + 1))))
        else:
            raise UsageError(
                "what to do was not said", "", "python3 -m edgec_runtime.sealed key | add MODEL.edge.keys", code="E205"
            )
    except Error as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(UsageError(f"{error.filename or where}: {error.strerror}", code="E201"), file=sys.stderr)
        return UsageError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
