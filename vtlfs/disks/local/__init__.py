"""A directory of a local file system as a disk. Only `vtlfs.disks` imports from here; others get a `Disk`."""
