"""The pyfuse3 adapter: decodes what the kernel asks, calls the engine once, encodes the answer."""
