"""General helpers for files, arrays, devices and errors; nothing here depends on a flag, a GAN or a run."""
