"""What runs, where, and with which values; the `tandem` command."""

import models as _models  # noqa: F401  sets the Keras switch before TFX loads tf.keras
