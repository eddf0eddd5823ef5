"""The one error that ingestion raises for what its user can mend."""


class IngestionError(Exception):
    """The log cannot be ingested; the message names the place and the mend."""
