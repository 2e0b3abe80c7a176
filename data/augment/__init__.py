"""Augmentations, and the grammar of --augment."""
