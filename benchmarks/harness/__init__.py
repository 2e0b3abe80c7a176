"""What measurements share: processes, statistics, tables."""
