"""Load samples and join them to batches, in any number of worker processes."""
