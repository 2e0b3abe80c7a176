"""The parts of the training loop in train.py: the run, its optimisers, learning-rate schedule and state."""
