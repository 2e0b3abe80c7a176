"""A trained model applied: batches of images, tiles, samples."""
