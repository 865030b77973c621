"""Finding damage: `vtlfs check` compares what is recorded, `vtlfs verify` reads all bytes, a mount checks first."""
