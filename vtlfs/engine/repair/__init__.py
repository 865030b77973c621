"""Repair: mends the stripes that lack extents or parity, and empties the disks that are retiring."""
