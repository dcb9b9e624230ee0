"""``trak init``: a new project folder from a checkpoint and data, with a YAML file and a script that run as they are."""
