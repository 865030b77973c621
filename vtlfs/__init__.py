"""vtlfs: a parallel-access virtual tape library that is a mounted directory."""

__version__ = "0.2.0"
