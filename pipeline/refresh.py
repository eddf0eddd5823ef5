"""Refreshes the items of a root's newest release: read, compare, embed, try, push.

A run trains; this does not. What a release learned stays, and so does all but the items:
features, policy, users' profiles. It is the release's models that answer, so a config
with other features is refused.
"""

import dataclasses
import datetime
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from components.candidate_selection import Selection, write_candidates
from components.catalog_files import ITEMS_TABLE
from components.gate import GateResult
from components.ingestion.items import ingest_items, write_catalog
from components.ingestion.summary import SourceCounts
from components.item_changes import (
    ItemChanges,
    Items,
    find_changes,
    incomplete_items,
    named,
    required_keys,
)
from components.push_release import library_versions, push_release
from components.refresh_release import (
    BaseRelease,
    RefreshError,
    RefreshSettings,
    refresh_bundle,
)
from components.validate_serving import validate_serving
from pipeline.config import ConfigError, TandemConfig
from pipeline.layout import Layout
from pipeline.library_log import library_log
from pipeline.root_config import with_absolute_paths, with_replayed
from serving.release_layout import ITEMS, PROFILES, Refresh, release_dir
from serving.release_tables import latest_release
from serving.saved_model_needs import needs_of_bundle


@dataclasses.dataclass(frozen=True)
class RefreshOptions:
    """What the caller asks of one refresh.

    Attributes:
        at: the moment that availability is judged at; None takes `candidates.at`, and
            without that the present.
        may_build: whether an index is built anew where that is due.
        max_removed_share: of the items, above which a refresh is refused.
        leave_out_incomplete: whether new items that lack features are left out, where
            they would end the refresh.
        dry_run: only says what would change.
    """

    at: datetime.datetime | None = None
    may_build: bool = True
    max_removed_share: float = 0.5
    leave_out_incomplete: bool = False
    dry_run: bool = False


@dataclasses.dataclass(frozen=True)
class RefreshResult:
    """What a refresh came to.

    Attributes:
        base: version of the release that it started from.
        release: version of the new one; None where nothing changed, on a dry run, and
            where a gate refused.
        changes: of what may be recommended.
        details_changed: whether the items table differs beyond that: titles, say.
        selection: what each rule removed.
        account: of the items table; None where the config declares none.
        left_out: new items that lack features -> what they lack.
        refresh: what the manifest says of it; None where nothing was written.
        index_reason: why this index.
        gates: the answers, in order.
    """

    base: int
    release: int | None
    changes: ItemChanges
    details_changed: bool
    selection: Selection
    account: SourceCounts | None
    left_out: dict[str, str]
    refresh: Refresh | None = None
    index_reason: str = ""
    gates: tuple[GateResult, ...] = ()

    @property
    def refused(self) -> list[GateResult]:
        """Returns the gates that held the push."""
        return [gate for gate in self.gates if not gate.passed]


def refresh_items(
    config: TandemConfig,
    root: Path,
    options: RefreshOptions,
    on_step: Callable[[str], None] = lambda step: None,
) -> RefreshResult:
    """Brings the newest release of a root up to date with the items table.

    Args:
        config: the one that the release was made with, or one that differs in
            `candidates`, `index`, `gates` or `push`.
        root: as of `tandem run`.
        options: how.
        on_step: called with the name of each step as it starts.

    Raises:
        NoReleaseError: if the root has no release.
        ConfigError: if the config declares other features than the release has.
        IngestionError: if the items table or the deny list cannot be read, or leave no
            item.
        RefreshError: if too much would go, new items lack features, an index would have
            to be built and may not, or the release was replaced meanwhile.
    """
    layout = Layout(root.resolve())
    config = with_replayed(with_absolute_paths(config, layout.root), layout)
    base = BaseRelease(layout.serving, latest_release(layout.serving).version)
    if base.settings().catalog != config.features:
        raise ConfigError(
            f"features: the config declares others than release {base.version} was made "
            "with, and its models know only those. Give the config of that release, or "
            "call `tandem run`."
        )
    with (
        library_log(layout.log),
        tempfile.TemporaryDirectory(prefix=".refresh-", dir=layout.root) as folder,
    ):
        try:
            return _Refresh(config, base, options, Path(folder), on_step).run()
        except FileNotFoundError as error:
            if release_dir(layout.serving, base.version).exists():
                raise
            raise RefreshError(
                f"release {base.version} was removed while it was refreshed: newer ones "
                "were pushed. Call this again."
            ) from error


@dataclasses.dataclass(frozen=True)
class _Refresh:
    """One refresh, in a folder of its own."""

    config: TandemConfig
    base: BaseRelease
    options: RefreshOptions
    folder: Path
    on_step: Callable[[str], None]

    def run(self) -> RefreshResult:
        self.on_step("read the items")
        account = self._read_catalog()
        selection = self._select(self._catalog, self._candidates)
        before = Items.read(self.base.parts.candidates_uri)
        after = Items.read(str(self._candidates))
        changes = find_changes(before, after)
        left_out = self._incomplete(changes, after)
        if left_out:
            self._leave_out(left_out)
            selection = self._select(self._catalog, self._candidates)
            after = Items.read(str(self._candidates))
            changes = find_changes(before, after)
        result = RefreshResult(
            base=self.base.version,
            release=None,
            changes=changes,
            details_changed=not self._is_same_table(),
            selection=selection,
            account=account,
            left_out=left_out,
        )
        self._check_removed(changes)
        if self.options.dry_run or not (changes or result.details_changed):
            return result
        return self._release(result, after.ids)

    @property
    def _catalog(self) -> Path:
        return self.folder / "catalog"

    @property
    def _candidates(self) -> Path:
        return self.folder / "candidates"

    @property
    def _tables(self) -> Path:
        return release_dir(self.base.serving_root, self.base.version)

    def _read_catalog(self) -> SourceCounts | None:
        """Reads the items table; without one, the items are those of the release."""
        config = self.config
        if config.data.items is None:
            table = pq.read_table(self._tables / ITEMS)
            write_catalog(table, config.features, str(self._catalog))
            return None
        return ingest_items(
            config.data,
            config.features,
            str(self._catalog),
            str(self.folder / "dead_letters"),
        )

    def _select(self, catalog: Path, candidates: Path) -> Selection:
        settings = self.config.candidates
        now = datetime.datetime.now(datetime.UTC)
        at = self.options.at or settings.at or now
        settings = settings.model_copy(update={"at": at})
        # The time of the newest event counts only where there is no `at`.
        return write_candidates(str(catalog), str(candidates), settings, 0)

    def _incomplete(self, changes: ItemChanges, after: Items) -> dict[str, str]:
        """Returns what new and changed items lack, if such are to be left out."""
        config = self.config
        found = incomplete_items(
            (
                (item, after.examples[item])
                for item in (*changes.added, *changes.changed)
            ),
            config.features,
            required_keys(config.schema_path(), config.features),
        )
        if found and not self.options.leave_out_incomplete:
            first, lacking = next(iter(found.items()))
            raise RefreshError(
                f"{len(found):,} new or changed item(s) lack features that the models "
                f"need: {named(found)}. {first!r} lacks {lacking}. Complete them in the "
                "items table, or leave them out with --leave-out-incomplete."
            )
        return found

    def _leave_out(self, item_ids: dict[str, str]) -> None:
        table = pq.read_table(self._catalog / ITEMS_TABLE)
        stays = [item not in item_ids for item in table["item_id"].to_pylist()]
        write_catalog(table.filter(stays), self.config.features, str(self._catalog))

    def _is_same_table(self) -> bool:
        before = pq.read_table(self._tables / ITEMS)
        return before.equals(pq.read_table(self._catalog / ITEMS_TABLE))

    def _check_removed(self, changes: ItemChanges) -> None:
        share, limit = changes.removed_share, self.options.max_removed_share
        if share > limit:
            raise RefreshError(
                f"{len(changes.removed):,} items, {share:.1%} of those of release "
                f"{self.base.version}, would not be recommended any more: "
                f"{named(changes.removed)}. If that is meant, give "
                f"--max-removed-share {min(1.0, share + 0.01):.2f}; else look at the items "
                "table, at `candidates` and at the moment of availability."
            )

    def _release(self, result: RefreshResult, item_ids: list[str]) -> RefreshResult:
        """Writes, tries and pushes the new version."""
        config, bundle = self.config, self.folder / "bundle"
        settings = RefreshSettings(
            config.index, config.gates.export, self.options.may_build
        )
        refreshed = refresh_bundle(
            self.base, str(self._candidates), bundle, settings, self.on_step
        )
        gates = [refreshed.gate]
        if refreshed.gate.passed:
            self.on_step("serve the models")
            gates.append(validate_serving(bundle, item_ids, config.gates.serving))
        result = dataclasses.replace(
            result,
            refresh=refreshed.refresh,
            index_reason=refreshed.index_reason,
            gates=tuple(gates),
        )
        if result.refused:
            return result
        self.on_step("push")
        manifest = push_release(
            bundle,
            self._catalog,
            self._tables / PROFILES,
            self.base.serving_root,
            config.push,
            versions=library_versions(),
            gates={
                g.gate: {check.name: check.seen for check in g.checks} for g in gates
            },
            refresh=refreshed.refresh,
            compatibility=needs_of_bundle(bundle),
        )
        return dataclasses.replace(result, release=manifest.version)


def to_json(result: RefreshResult, seconds: float) -> str:
    """Returns the result as one JSON object."""
    changes = result.changes
    return json.dumps(
        {
            "base": result.base,
            "release": result.release,
            "added": len(changes.added),
            "changed": len(changes.changed),
            "removed": len(changes.removed),
            "unchanged": changes.unchanged,
            "details_changed": result.details_changed,
            "selection": result.selection.model_dump(mode="json"),
            "items": result.account.model_dump() if result.account else None,
            "left_out": result.left_out,
            "refresh": result.refresh.model_dump() if result.refresh else None,
            "index": result.index_reason,
            "gates": {
                gate.gate: {"passed": gate.passed, "reason": gate.reason}
                for gate in result.gates
            },
            "seconds": round(seconds, 1),
        }
    )
