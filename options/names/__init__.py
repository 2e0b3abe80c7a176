"""Names that flags have elsewhere."""
