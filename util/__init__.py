"""Tools with no knowledge of GANs, data or options: one noun per file."""
