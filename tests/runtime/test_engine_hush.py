"""What LiteRT says at each load is dropped; everything else on standard error stays."""

import os
import threading

import pytest

from edgec_runtime.engines.hush import LINE, Hush


def test_only_that_line_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    with Hush():
        os.write(2, LINE + b"\nWARNING: of another kind\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "WARNING: of another kind\nafter\n"


def test_an_error_inside_leaves_standard_error_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), Hush():
        os.write(2, b"why\n")
        raise ValueError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "why\nafter\n"


def test_threads_take_turns(capfd: pytest.CaptureFixture[str]) -> None:
    def load() -> None:
        for _ in range(50):
            with Hush():
                os.write(2, LINE + b"\n")

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_without_standard_error_nothing_happens() -> None:
    own = os.dup(2)
    os.close(2)
    try:
        with Hush():
            pass
    finally:
        os.dup2(own, 2)
        os.close(own)
