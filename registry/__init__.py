"""How a name becomes a class, and what plug-ins must keep to."""
