"""Read and write weights and training states safely."""
