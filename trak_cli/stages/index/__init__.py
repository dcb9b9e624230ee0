"""What a store holds: run plan, splits, fingerprints, inventory."""
