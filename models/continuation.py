"""Why a release cannot be continued from; apart, so that naming it loads no TensorFlow."""


class ContinuationError(ValueError):
    """A release that cannot be continued from; the message says why and the mend."""
