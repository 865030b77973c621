"""The layout port: which extents form a stripe, on which disks they lie, and how lost ones are computed. Pure."""
