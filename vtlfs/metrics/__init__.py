"""Metrics for Prometheus: what they are, how a mount and a library are asked for them, and how they are served.

docs/monitoring.md is the manual. Only `exposition` and `server` know prometheus_client, whose import takes time and
memory: a mount without the option `metrics=` loads neither of them.
"""
