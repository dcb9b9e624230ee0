"""Compressed features, and the candidates that they give for the scores of new targets."""
