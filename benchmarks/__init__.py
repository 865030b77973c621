"""Benchmarks: vtlfs and its peers, measured in turn in the same run over the same directories. See `make bench`."""
