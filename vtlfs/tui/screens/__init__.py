"""The screens of the terminal UI, and its dialogs."""
