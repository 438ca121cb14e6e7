"""Emulators, virtual boards and vendors' compilers, set up from public packages (see ARCHITECTURE.md)."""
