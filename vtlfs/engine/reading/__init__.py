"""From the recorded extents back to a stream's bytes, each extent checked."""
