"""Disks: directories on random-access devices that hold stripe units. Nothing here knows of media or SQL."""
