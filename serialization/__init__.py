"""How weights and states are read and written."""
