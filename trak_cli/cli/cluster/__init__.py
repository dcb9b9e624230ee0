"""Commands that start tasks elsewhere."""
