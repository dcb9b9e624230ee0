"""Trainers of `trak train`, `trak retrain` and `trak unroll`: the contract, and SGD and AdamW as sequences of pure steps."""
