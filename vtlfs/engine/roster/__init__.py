"""Which disks a library has: how disks are added, replaced and retired, by a command; what is checked before."""
