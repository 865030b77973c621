"""A new tracking database from the disks: `vtlfs rebuild`."""
