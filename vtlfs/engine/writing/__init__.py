"""From a write request to bytes that are durable on the disks and recorded."""
