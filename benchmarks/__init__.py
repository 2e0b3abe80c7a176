"""Benchmarks: each file is a command or a part of one."""
