"""Decode image files into arrays of pixels."""
