"""Registers ScaNN's TensorFlow ops, which a SavedModel that uses them needs to load."""

SCANN_OP_PREFIX = b"Scann>"  # how ScaNN's ops are named in a saved graph


def register_scann_ops() -> None:
    """Loads ScaNN's op library into this process; a second call does nothing.

    Raises:
        RuntimeError: if ScaNN is missing, was built for another TensorFlow, or the
            machine cannot run it; the message says what serves instead.
    """
    try:
        from scann.scann_ops.py import scann_ops  # noqa: F401  loading registers the ops
    except Exception as error:
        # An op library that does not fit TensorFlow fails with errors of many types
        # (ImportError, OSError, tf.errors.NotFoundError, ...); all mean the same here.
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise RuntimeError(
            f"ScaNN's TensorFlow ops could not be loaded here ({reason}). "
            "`tandem doctor` says what is missing; meanwhile use the model "
            "`recommender_exact`, which gives the same answers with stock ops only."
        ) from error
