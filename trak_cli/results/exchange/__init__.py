"""Scores in the files of other programs, which are written and read in blocks."""
