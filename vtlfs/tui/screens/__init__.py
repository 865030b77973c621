"""The screens of the terminal UI, and its dialogs. No screen knows another: the application opens them."""
