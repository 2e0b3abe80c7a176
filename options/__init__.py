"""Flags: what there is (common, train, test), how they are read (parse), checked and remembered (store)."""
