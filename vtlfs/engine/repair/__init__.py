"""Repair: stripes that lack something are mended, and disks that leave are emptied."""
