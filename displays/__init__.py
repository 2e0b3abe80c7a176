"""The displays of a run while it trains, one per file; displays/base.py holds their base class and table."""
