"""Reclaiming: stored bytes of volumes that have ended are deleted when no snapshot shows them and nobody reads them.

The catalogue comes first, see `vtlfs.engine.tracking.repositories.reclaiming`. Nothing is written to a disk, so that a
disk that is full to the last byte gets room.
"""
