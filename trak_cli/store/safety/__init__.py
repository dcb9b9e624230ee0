"""Stores from somebody else or on a shared file system: links, values that do not fit, files that are not whole yet."""
