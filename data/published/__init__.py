"""Data sets in the folders that the code of published models reads."""
