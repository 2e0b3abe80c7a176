"""Stand-ins for what a machine lacks."""
