"""Plug-ins for GANvas, found through the entry points of this package."""
