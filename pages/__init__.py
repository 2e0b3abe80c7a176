"""The web pages that GANvas writes, with their layout, scripts and styles."""
