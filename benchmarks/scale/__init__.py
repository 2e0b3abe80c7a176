"""How long whole trainings take, from measured steps."""
