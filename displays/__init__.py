"""Ways of showing a run while it trains, one a file; util/display.py holds their contract and table."""
