"""The screens and dialogs of the terminal UI. No screen imports another: the application opens each."""
