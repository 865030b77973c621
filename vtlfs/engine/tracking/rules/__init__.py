"""The rules of `invariants`, by what they are about."""
