"""Apply a trained model: batches of images, tiles, samples."""
