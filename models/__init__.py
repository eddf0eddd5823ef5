"""Maths and Keras: losses, layers, models, the index and the fused recommender.

No Beam and no orchestration here. Importing this package sets the Keras switch, and it
is the only place that does: TensorFlow Recommenders needs Keras 2, and TensorFlow reads
the variable once, at the first use of `tf.keras`. Packages that load TFX (which touches
`tf.keras` too) import this one first.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
