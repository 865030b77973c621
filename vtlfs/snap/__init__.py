"""Snapshots of the tracking database: taking, looking at, comparing, exporting and thinning them out.

A snapshot costs one row: the history of the tables is kept anyway, see vtlfs.engine.tracking.history.
"""
