"""From the bytes of one stream to durable extents on the disks: extents, stripes, placement, sending, syncs."""
