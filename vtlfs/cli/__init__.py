"""The command line: one program, `vtlfs`."""
