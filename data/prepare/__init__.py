"""Prepare data sets on disk; training uses nothing in here."""
