"""Measure a run while it trains: which images, with which metrics, and what follows from the values."""
