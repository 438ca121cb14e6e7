"""Measuring what was made: accuracy with the device's own adapter, speed side by side in one run."""
