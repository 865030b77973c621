"""The engine: sessions, striping, the append-only contract and their tracking, without a word of FUSE."""
