"""The tasks of the benchmark of quality, and the report of its runs."""
