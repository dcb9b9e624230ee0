"""From a configuration to features in shards, in the steps of :mod:`trak_cli.stages.featurize` (docs/architecture.md)."""
