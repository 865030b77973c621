"""Media that leave a library, and come into another one: export, import and copy."""
