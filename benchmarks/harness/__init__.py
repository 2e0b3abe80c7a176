"""Shared code of the benchmarks: processes, statistics and tables."""
