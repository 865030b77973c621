"""Copies of the tracking database on the disks."""
