"""What people, rules and robots do to media: their lives, their pools, and their places in the changer."""
