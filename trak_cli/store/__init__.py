"""The store: a file exists whole or not at all, a changed byte is found, nothing stored is ever evaluated.

The only package that writes HDF5; HDF5 files from users are read by ``trak_cli.user_hdf5``.
"""
