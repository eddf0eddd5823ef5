"""Which release the gates compare with, and which a span continues, locally."""

from tfx import v1 as tfx

from components.ingestion.spans import span_order

SPAN = "span"  # custom property of a release: the span it was tested on, "" for none


class LastReleaseStrategy(tfx.dsl.experimental.ResolverStrategy):
    """Resolves the newest release to the artifact that first stood for it.

    A push that finds its release in place already leaves another artifact of the same
    version. Taking the first one of a version keeps the cache: with TFX's own
    LatestArtifactStrategy every run would see a new artifact, judge the models again,
    push again, and so never come from the cache as a whole.

    Args:
        incumbent: version of the release that serves, where a later one was taken back;
            0 takes the newest.
    """

    def __init__(self, incumbent: int = 0) -> None:
        self._incumbent = incumbent

    def resolve_artifacts(self, store, input_dict):
        """Returns {key: [artifact]}, or None while there is no release."""
        del store
        resolved = {}
        for key, artifacts in input_dict.items():
            if not artifacts:
                return None
            serving = [a for a in artifacts if version_of(a) == self._incumbent]
            resolved[key] = [newest_release(serving or artifacts)]
        return resolved


class BaseReleaseStrategy(tfx.dsl.experimental.ResolverStrategy):
    """Resolves the newest release that a span can continue.

    That is one of an earlier span, or of no span: a span that is run again starts from
    where it started before, not from what it came to, so it comes from the cache, or,
    where the log was mended, learns the mended log once.

    Args:
        span: the one that is run.
        incumbent: version of the release that serves; later ones were taken back, and
            are not continued. 0 allows all.
    """

    def __init__(self, span: str, incumbent: int = 0) -> None:
        self._span = span
        self._incumbent = incumbent

    def resolve_artifacts(self, store, input_dict):
        """Returns {key: [artifact]}, or None while there is no such release."""
        del store
        resolved = {}
        for key, artifacts in input_dict.items():
            earlier = [a for a in artifacts if self._is_earlier(a)]
            if not earlier:
                return None
            resolved[key] = [newest_release(earlier)]
        return resolved

    def _is_earlier(self, release) -> bool:
        if self._incumbent and version_of(release) > self._incumbent:
            return False
        span = release.get_string_custom_property(SPAN)
        return not span or span_order(span) < span_order(self._span)


def newest_release(releases):
    """Returns the artifact that first stood for the newest version."""
    return max(releases, key=lambda a: (version_of(a), -a.id))


def version_of(release) -> int:
    """Returns the version that an artifact stands for."""
    return release.get_int_custom_property("version")
