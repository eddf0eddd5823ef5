"""Which release the gates compare with, on the local runner."""

from tfx import v1 as tfx


class LastReleaseStrategy(tfx.dsl.experimental.ResolverStrategy):
    """Resolves the newest release to the artifact that first stood for it.

    A push that finds its release in place already leaves another artifact of the same
    version. Taking the first one of a version keeps the cache: with TFX's own
    LatestArtifactStrategy every run would see a new artifact, judge the models again,
    push again, and so never come from the cache as a whole.
    """

    def resolve_artifacts(self, store, input_dict):
        """Returns {key: [artifact]}, or None while there is no release."""
        del store
        resolved = {}
        for key, artifacts in input_dict.items():
            if not artifacts:
                return None
            newest = max(
                artifacts, key=lambda a: (a.get_int_custom_property("version"), -a.id)
            )
            resolved[key] = [newest]
        return resolved
