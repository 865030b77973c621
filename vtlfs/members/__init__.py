"""The member index: which files the archives on the tapes hold.

`values` are the nouns, `tables` and `database` the index's own SQLite file, `stream` reads what is indexed, `archive`
walks archives with libarchive in a process of its own (`worker`, which `child` starts and watches), `indexing` brings
both together, `finding` answers `vtlfs find`, `job` and `foreground` are the two that index: a mount and a command.
"""
