"""A real browser that opens our pages."""
