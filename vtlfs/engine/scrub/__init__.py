"""Looking through a library: `vtlfs check` compares records, `vtlfs verify` reads all bytes, a mount looks first."""
