"""What people do with finished scores: one file for each subcommand, and what they share.

Nothing here computes scores of a stored split; the stages below do.
"""
