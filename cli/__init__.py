"""Start a command, handle signals and errors, and end with an exit code."""
