"""Loss functions and the sampling statistics they need: tensors in, tensors out."""
