"""Restoring archive members: `vtlfs restore`, and the terminal UI.

`wanted` finds the members that words name, `selection` says which of them there are and in which order, `source` hands
over the bytes of each, `extracting` has libarchive read those bytes and make the file, `destination` gives the file its
name beneath one directory and nowhere else, `restoring` brings all of them together.
"""
