"""The catalogue: what is known of hosts, sessions, media, disks and tape files. SQL stands here, but for that of rebuilding, copies
and verifications."""
