"""Training one model, for `trak train` and `trak retrain`."""
