"""Declare the flags (common, data, train, test), parse them, check them and store them with the run."""
