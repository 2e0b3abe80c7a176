"""From samples to batches, in any number of worker processes."""
