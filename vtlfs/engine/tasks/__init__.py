"""The tasks of a mount beside its sessions: its disks, other mounts that died, memory, and what it tells of itself."""
