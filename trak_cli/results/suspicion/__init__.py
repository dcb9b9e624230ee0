"""How suspicious every training sample is, by several criteria."""
