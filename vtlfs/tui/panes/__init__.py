"""The tabs of a state: its drives, media, sessions and disks, and the live view of now."""
