"""Ways of showing a run while it trains, one a file; displays/base.py holds their contract and table."""
