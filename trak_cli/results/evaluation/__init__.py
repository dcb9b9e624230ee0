"""The evaluations of ``trak evaluate``: what each reads, and the metrics that it reports."""
