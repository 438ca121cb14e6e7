"""Devices that are reached by SSH: what they are (probe), the runtime onto them (setup), which there are (inventory).

    async with connect(Address.parse("pi@10.0.0.7")) as device:
        found = await probe(device)

One file a concern: address, transport (asyncssh), probe with its shell script, surprises, board (the TOML file), setup
with the program that runs on the device, inventory (SQLite).
"""

from edgec.devices.address import Address
from edgec.devices.probe import Probe, probe
from edgec.devices.transport import Connection, connect

__all__ = ["Address", "Connection", "Probe", "connect", "probe"]
