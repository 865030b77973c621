"""The pyfuse3 adapter: decodes the kernel's requests, calls the engine once for each, encodes the answers."""
