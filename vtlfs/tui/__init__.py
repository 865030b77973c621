"""The terminal UI: a Textual application that looks at every state of a library. It changes nothing but snapshots."""
