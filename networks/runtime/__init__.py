"""Run-time options of networks in training: mixed precision, compilation, gradient checkpointing."""
