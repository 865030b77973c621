"""The catalogue: the tracking database, which records hosts, sessions, media, disks, tape files and extents.

All SQL of the product stands here, except the queries of snapshots, which stand in `vtlfs.snap`. `Tracking` in
`database` is a connection; its users call its repositories, such as `tracking.media.get(barcode)`.
"""
