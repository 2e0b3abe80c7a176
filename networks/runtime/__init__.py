"""How networks compute in training: mixed precision, compilation, checkpointing."""
