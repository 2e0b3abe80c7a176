"""Several processes: a soak of kills, and their speed."""
