"""Installed bundles: a shared store of verified members, and two slots for each app."""
