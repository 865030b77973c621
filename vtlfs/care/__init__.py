"""Watching a library while it is mounted: who is told what goes wrong (`[notify]`), and what is tried (`[care]`).

Each is done by one mount of the library at a time. Nothing here may harm a stream: what fails is logged, and tried
again.
"""
