"""Augmentations and the language of --augment."""
