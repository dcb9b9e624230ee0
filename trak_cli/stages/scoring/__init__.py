"""Gram matrices and scores in a store: computed, written, read."""
