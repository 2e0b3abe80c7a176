"""Names that flags have elsewhere, and the answers to wrong words."""
