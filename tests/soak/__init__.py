"""A load test: hundreds of real programs write, read and watch one library for minutes; then everything is compared.

`make soak` runs it for as long as one likes; `python -m soak --help`, in tests, says how. test_soak.py: a short run.
"""
