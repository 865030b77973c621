"""The catalogue: what is known of hosts, sessions, media, disks and tape files. All SQL of the engine stands here."""
