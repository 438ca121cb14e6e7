"""Bundles onto devices: what is sent, and how (planned: transports' client, fleets). Deltas are here."""
