"""Download data sets and weights; training uses nothing in here."""
