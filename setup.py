"""Build entry point for tools that want one; everything is in setup.cfg."""

from setuptools import setup

setup()
