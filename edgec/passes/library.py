"""Runs a pass that onnx-ir or onnxscript ships, and records what it removed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import onnx_ir as ir

from edgec.passes.report import Log


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps these libraries' log lines ("evaluation failed", "cannot merge shapes") away from the user's terminal.

    They say why something was left alone, which is no warning to someone who compiles a model.
    """
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def run(model: ir.Model, shipped: ir.passes.PassBase, log: Log, rule: str) -> None:
    """Applies `shipped` in place; each node that is gone afterwards counts as one application of `rule`."""
    before = [node for graph in model.graphs() for node in graph]
    with quiet():
        modified = shipped(model).modified
    after = {id(node) for graph in model.graphs() for node in graph}
    gone = [node for node in before if id(node) not in after]
    for node in gone:
        log.fire(rule, node.name)
    if modified and not gone:
        log.fire(rule)
