"""Where everything of a root folder lies."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Layout:
    """The places in one root folder."""

    root: Path

    @property
    def data(self) -> Path:
        """Fetched data sets."""
        return self.root / "data"

    def replayed(self, config_name: str, table: str) -> Path:
        """Mended dead letters of one table that the next run of a config reads."""
        return self.root / "replayed" / config_name / table

    def left(self, config_name: str) -> Path:
        """Stored dead letters that a replay still refuses."""
        return self.root / "replayed" / config_name / "left"

    @property
    def pipeline(self) -> Path:
        """Artifacts of every run, TensorBoard logs among them."""
        return self.root / "pipeline"

    def tuning(self, config_name: str) -> Path:
        """Searches for settings; beside the runs, so that TensorBoard shows them too."""
        return self.pipeline / "Tune" / config_name

    @property
    def checkpoints(self) -> Path:
        """What a killed training left, until it has been resumed and has ended."""
        return self.root / "checkpoints"

    @property
    def metadata(self) -> Path:
        """ML Metadata's SQLite file."""
        return self.root / "metadata.sqlite"

    @property
    def serving(self) -> Path:
        """What model servers load."""
        return self.root / "serving"

    @property
    def report(self) -> Path:
        """The figures of the latest run."""
        return self.root / "report" / "metrics.json"

    @property
    def config(self) -> Path:
        """The config of the latest run, as it was in force."""
        return self.report.parent / "config.json"

    @property
    def events(self) -> Path:
        """What a server showed, and what users did."""
        return self.root / "events"

    @property
    def event_store(self) -> Path:
        """The database of those events."""
        return self.events / "events.db"

    @property
    def request_log(self) -> Path:
        """A sample of what the HTTP API asked the model, as PredictionLog records."""
        return self.events / "requests"

    @property
    def data_report(self) -> Path:
        """The data gate's page of the latest run, for a browser."""
        return self.root / "report" / "data.html"

    @property
    def spans(self) -> Path:
        """The figures of each span that was run, continued and from scratch."""
        return self.root / "report" / "spans.json"

    @property
    def spans_page(self) -> Path:
        """Those figures as a page, for a browser."""
        return self.root / "report" / "spans.html"

    @property
    def policies(self) -> Path:
        """What off-policy evaluation said of each release."""
        return self.root / "report" / "policies.json"

    def policy_board(self, config_name: str) -> Path:
        """The same for TensorBoard, beside the runs."""
        return self.pipeline / "Policies" / config_name

    @property
    def simulation(self) -> Path:
        """The rounds of a simulated closed loop."""
        return self.root / "report" / "simulation.json"

    def simulation_board(self, config_name: str) -> Path:
        """The same for TensorBoard, beside the runs."""
        return self.pipeline / "Simulation" / config_name

    @property
    def log(self) -> Path:
        """What TFX and Beam logged."""
        return self.root / "run.log"
