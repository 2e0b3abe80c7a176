"""Scripts of `make`: PyTorch that fits the machine, visdom and the scripts of its page."""
