"""Widgets that know nothing of libraries: a table, a plot, and the bar of keys."""
