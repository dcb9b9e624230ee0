"""The commands that read finished scores."""
