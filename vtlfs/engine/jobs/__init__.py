"""Long work beside the streams: claimed by one mount, or done by a command; limited in its speed, and stopped."""
