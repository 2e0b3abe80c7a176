"""What Python, the operating system and arrays lack; nothing here knows a flag, a GAN or a run."""
