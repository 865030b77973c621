"""The terminal UI: a Textual application that shows every state of a library. It changes nothing but snapshots.

`vtlfs.cli.tui` starts `app.run`. Imports go downwards only; contracts in pyproject.toml keep it so:

- `app` owns the screens: pages post messages, and only the application opens another screen for them;
- `screens/` are whole windows and dialogs, `panes/` the tabs of one state, `widgets/` know nothing of libraries;
- the other modules know nothing of Textual: worker threads call them, and they may block.
"""
