"""Bundles onto devices, over SSH or into an SD card's image.

`device.flash_one` puts an opened bundle (`plan.open`) on one device: `session` speaks with the agent there by the
frames of `wire`, `send` sends what is missing, whole or as patches (`delta`), and the device tries it. `fleet` is for
many.
"""
