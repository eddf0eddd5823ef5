"""The search for better settings of the models, judged on the eval split alone."""
