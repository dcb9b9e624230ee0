"""Arrays in, arrays out: Gram matrices, ridges, the estimator family, top-k and the linear datamodeling score.

Nothing here reads or writes files, or knows what a model is. Start with :mod:`trak_cli.attribution.estimator.spec`, which has
the formula.
"""
