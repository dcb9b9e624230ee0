"""The program from Python: stages, stores and attribution of objects in memory. ``import trak_cli as trak`` has the names.

This layer stands beside the command line: it calls the same stages and returns what they return.
"""
