"""Prepare a data set on disk; nothing here is used while training."""
