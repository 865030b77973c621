"""What only a rebuild asks of the catalogue: temporary tables of what it has found, and the changes that it makes."""
