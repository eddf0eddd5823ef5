"""The two-tower retrieval model: settings, towers, training, evaluation."""
