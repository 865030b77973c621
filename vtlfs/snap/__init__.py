"""Snapshots of the tracking database: taking, querying, comparing, exporting and pruning them.

A snapshot costs one row, since the tables keep their history in any case, see `vtlfs.engine.tracking.history`.
"""
