"""The systems of `trak refine`: their settings, their solutions under each checkpoint, and the scores made of them."""
