"""The optional compiled kernels of the projection, and the list of packages; everything else is in setup.cfg.

They need a C compiler and nothing more. Where there is none the installation goes on without them, and the projection
uses PyTorch's matrix product instead.
"""

import sys

from setuptools import Extension, find_packages, setup

FOLDER = "trak_cli/projection/kernels"
FLAGS = [] if sys.platform == "win32" else ["-O3", "-std=gnu11", "-ffp-contract=off", "-fvisibility=hidden"]

setup(
    packages=[*find_packages(include=["trak_cli", "trak_cli.*"]), "trak_cli.configs"],
    ext_modules=[
        Extension(
            "trak_cli.projection.kernels._cpu",
            sources=[f"{FOLDER}/{name}.c" for name in ("avx2", "avx512", "library", "portable")],
            depends=[f"{FOLDER}/{name}.h" for name in ("dense", "job", "lookup", "matrix", "sjlt")],
            extra_compile_args=FLAGS,
            optional=True,
        )
    ],
)
