"""Which optimisers there are, and how they step with little work beside their arithmetic."""
