"""How a command starts, is interrupted and ends."""
