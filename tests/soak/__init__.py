"""A load test: hundreds of real programs write, read and watch one library for minutes; then everything is compared.

`make soak` runs it for any time; `python -m soak --help`, in the directory tests, says how. test_soak.py: briefly.
"""
