"""Whom a fleet trusts: root metadata with key roles and thresholds, and the chain of its versions on this machine."""
