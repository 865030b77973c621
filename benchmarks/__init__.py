"""Benchmarks: measure vtlfs and its peers in turn, in the same run and over the same directories. See `make bench`."""
