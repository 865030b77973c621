"""The catalogue: what is known of hosts, sessions, media, disks and tape files. All SQL but that of rebuilding, copies
and verifications stands here.
"""
