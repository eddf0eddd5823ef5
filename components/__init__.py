"""TFX components: a pure core per question and, beside it, a thin `<thing>_component.py`."""

import models as _models  # noqa: F401  sets the Keras switch before TFX loads tf.keras
