"""Corrections without labels: one idea a file; `stages.correct` tries them and keeps what held-out samples confirm."""
