"""Policies that explore, what they learn from, and what they would have earned."""
