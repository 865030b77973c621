"""The storage port, and what implements it: places for members, copies of the catalogue and high-water marks.

`base` is the port, `contents` what it tells, `headers` and `records` the codec of what describes members. `local` is a
directory as a disk, which only this package imports; `missing` the place of a disk that is not there. `discovery` finds
the disks of a library, `pool` has the threads that work for them in a mount. Nothing here knows of media or SQL.
"""
