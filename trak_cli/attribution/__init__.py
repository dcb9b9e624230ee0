"""Scores and their evaluation as functions of arrays: Gram matrices, estimators, top-k, the linear datamodeling score.

Nothing here reads or writes files, and nothing depends on a model. Start with :mod:`trak_cli.attribution.estimator.spec`, which
has the formula.
"""
