"""Version ranges such as ">=1.18,<2": the part of PEP 440 that engines use, without `packaging`.

A version is a release (numbers with dots), perhaps a pre-, post- or development release ("1.23.0rc1", "1.22.post1",
"1.24.0.dev20260101") and a local part ("1.20+cpu"), which is ignored.
"""

from __future__ import annotations

_VERSION = (
    r"v?(\d{1,9}(?:\.\d{1,9}){0,7})(?:[-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?(\d{0,9}))?"
    r"(?:[-_.]?(post|rev|r)[-_.]?(\d{0,9}))?(?:[-_.]?(dev)[-_.]?(\d{0,12}))?(?:\+[a-z0-9._-]{1,64})?"
)
OPERATORS = (">=", "<=", "==", "!=", ">", "<")
MAX_RANGE = 256
_PRE = {"a": 0, "alpha": 0, "b": 1, "beta": 1, "c": 2, "rc": 2, "pre": 2, "preview": 2}
Key = tuple[tuple[int, ...], tuple[int, int], int, int]  # (release, pre, post, dev): ordered as PEP 440 orders versions


def key(version: str) -> Key:
    """A sort key of a version. Raises ValueError where it is not one."""
    plain = version.split(".")
    if len(plain) <= 8 and all(part.isdigit() and part.isascii() and len(part) < 10 for part in plain):
        return _release(plain), (9, 0), -1, 10**13  # most versions: no need to compile a pattern
    return _full_key(version)


def _release(parts: list[str]) -> tuple[int, ...]:
    release = [int(part) for part in parts]
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    return tuple(release)


def _full_key(version: str) -> Key:
    import re

    match = re.fullmatch(_VERSION, version.strip(), re.ASCII | re.IGNORECASE)
    if not match:
        raise ValueError(f"{version[:40]!r} is not a version")
    is_dev = match[6] is not None
    if match[2]:
        pre: tuple[int, int] = (_PRE[match[2].lower()], int(match[3] or 0))
    else:
        pre = (-1, 0) if is_dev and not match[4] else (9, 0)  # a development release comes before its pre-releases
    post = int(match[5] or 0) if match[4] else -1
    dev = int(match[7] or 0) if is_dev else 10**13
    return _release(match[1].split(".")), pre, post, dev


def parse(text: str) -> tuple[tuple[str, Key], ...]:
    """The clauses of a range, all of which must hold; none in an empty range. Raises ValueError."""
    if len(text) > MAX_RANGE:
        raise ValueError("the range is too long")
    clauses = []
    for part in text.split(",") if text.strip() else ():
        clause = part.strip()
        operator = next((known for known in OPERATORS if clause.startswith(known)), None)
        if operator is None:
            raise ValueError(f"{clause[:40]!r} is not a comparison such as >=1.18")
        clauses.append((operator, key(clause[len(operator) :].strip())))
    return tuple(clauses)


def within(version: str, text: str) -> bool:
    """True if the version lies in the range. Raises ValueError where either can't be parsed.

    A pre-release of an upper bound does not count as below it ("2.0rc1" is not "<2"), nor a post-release of a lower
    bound as above it ("1.18.post1" is not ">1.18"), unless the bound itself is such a one: PEP 440, as packaging 26
    reads it.
    """
    have = key(version)
    return all(_holds(have, operator, want) for operator, want in parse(text))


def _holds(have: Key, operator: str, want: Key) -> bool:
    if operator == ">=":
        return have >= want
    if operator == "<=":
        return have <= want
    if operator == "==":
        return have == want
    if operator == "!=":
        return have != want
    release, pre, post, dev = want
    if operator == "<":
        final = pre == (9, 0) and dev == 10**13
        return have < ((release, (-1, 0) if post < 0 else pre, post, 0) if final else want)
    its_post = post < 0 and dev == 10**13 and have[:2] == want[:2] and have[2] >= 0
    return have > want and not its_post
