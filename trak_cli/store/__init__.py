"""The store: a file is complete or absent, a changed byte is detected, and nothing stored is evaluated.

The only package that writes HDF5. ``trak_cli.user_hdf5`` reads the HDF5 files of users.
"""
