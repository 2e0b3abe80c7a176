"""The web pages that GANvas writes: their layout, scripts and styles."""
