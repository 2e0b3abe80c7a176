"""Steps of training as CUDA graphs: forward pass, losses and backward passes without Python (--cuda_graphs)."""
