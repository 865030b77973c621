"""The catalogue: what is known of hosts, sessions, media, disks and tape files.

All SQL of the product stands here, but for what snapshots add to it in `vtlfs.snap`. `Tracking` in `database` is a
connection; everybody asks its repositories, such as `tracking.media.get(barcode)`.
"""
