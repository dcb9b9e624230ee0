"""Training one model: shared by `trak train` and `trak retrain`."""
