"""Find the image files in a folder, a zip file or a manifest."""
