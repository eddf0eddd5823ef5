"""Layers shared by the models: they see tensors and kinds, never feature names."""
