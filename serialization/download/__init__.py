"""Download one file completely from servers that may do anything."""
