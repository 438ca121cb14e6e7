"""Whom this device trusts, and the check that a signature is theirs."""
