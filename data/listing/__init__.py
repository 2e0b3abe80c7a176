"""Which image files there are in a folder, a zip file or a manifest."""
