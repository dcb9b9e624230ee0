"""trak: which training examples made the model say this?

A command-line implementation of TRAK (Park et al., ICML 2023, arXiv 2303.14186). ``docs/architecture.md`` is the map.
"""

__version__ = "0.1.0"
