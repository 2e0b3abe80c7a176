"""Read tar files of untrusted origin, and keep those of a server in a cache; no image is looked at here."""
