"""The contents of a store: run plan, splits, fingerprints, inventory."""
