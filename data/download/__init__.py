"""Download data sets and weights; nothing here is used while training."""
