"""Train with several processes (torchrun): average gradients over them, and keep the state of each."""
