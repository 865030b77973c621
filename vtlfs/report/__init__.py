"""What an administrator asks in the morning: what happened last night, and what needs attention.

`night` and `attention` have no I/O but the catalogue's read side; `vtlfs report` and the terminal UI show the same.
"""
