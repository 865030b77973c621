"""From the recorded stripe units back to a stream's bytes, each unit checked."""
