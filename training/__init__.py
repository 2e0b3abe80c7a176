"""What the loop of train.py calls: the run, its optimisers, its schedule, its state."""
