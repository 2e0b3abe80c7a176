"""What training costs, computed from measured steps."""
