"""Commands beside train.py and test.py: prepare data, download, compare runs."""
