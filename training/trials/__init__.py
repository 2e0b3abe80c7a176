"""Short trials that measure how a run computes fastest on its device."""
