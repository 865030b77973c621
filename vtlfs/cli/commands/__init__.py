"""The commands, a module for each or for a few that belong together; `vtlfs.cli.main` loads the module of a command."""
