"""Images that form no data set: those that arrive in a folder, and the frames of a video."""
