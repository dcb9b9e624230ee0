"""The store: a file exists whole or not at all, a changed byte is found, nothing stored is ever evaluated.

The only room that writes HDF5; the files that users bring are read by ``trak_cli.user_hdf5``.
"""
