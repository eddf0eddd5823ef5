"""Ranking models: they score (query, candidate) rows by logits."""
