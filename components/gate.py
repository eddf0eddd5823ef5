"""What a gate answers, and the file it leaves: shared by every gate of the pipeline."""

import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing a gate looked at.

    `seen` and `expected` are short texts for a person, e.g. "7.2 %" and "at most 5 %".
    """

    name: str
    passed: bool
    seen: str
    expected: str

    @property
    def sentence(self) -> str:
        """Returns what was seen and what was expected, in one sentence."""
        return f"{self.name}: seen {self.seen}, expected {self.expected}."


@dataclasses.dataclass(frozen=True)
class GateResult:
    """The answer of one gate; without checks nothing was shown, and it refuses.

    `note` is a sentence that belongs to the reason whatever the answer is: that a gate
    passed because it could not judge is not the same as that it passed.
    """

    gate: str
    checks: tuple[Check, ...]
    note: str = ""

    @property
    def passed(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Returns one sentence: the first failing check, or that all passed; the note."""
        failed = [check for check in self.checks if not check.passed]
        if not self.checks:
            text = f"{self.gate} refused: it had nothing to check."
        elif failed:
            more = f" {len(failed) - 1} more failed." if len(failed) > 1 else ""
            text = f"{self.gate} refused: {failed[0].sentence}{more}"
        else:
            count = len(self.checks)
            text = f"{self.gate} passed: {count} of {count} checks."
        return f"{text} {self.note}".rstrip()

    def to_json(self) -> str:
        """Returns the content of `gate.json`."""
        record = {
            "gate": self.gate,
            "passed": self.passed,
            "reason": self.reason,
            "checks": [dataclasses.asdict(check) for check in self.checks],
        }
        if self.note:
            record["note"] = self.note
        return json.dumps(record, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "GateResult":
        """Reads what `to_json` wrote.

        Raises:
            ValueError: if the text is no gate report, or contradicts its own checks.
        """
        try:
            record = json.loads(text)
            checks = tuple(Check(**check) for check in record["checks"])
            result = cls(record["gate"], checks, record.get("note", ""))
            passed = record["passed"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a gate report: {error!r}") from error
        if result.passed is not passed:
            raise ValueError(
                f"the gate report of `{result.gate}` says passed={passed}, but its "
                f"checks say {result.passed}; run the gate again."
            )
        return result


def at_most(name: str, seen: float, limit: float, detail: str = "") -> Check:
    """Checks `seen` <= `limit`; a NaN fails."""
    return Check(
        name, seen <= limit, f"{_shown(seen)}{detail}", f"at most {_shown(limit)}"
    )


def at_least(name: str, seen: float, limit: float, detail: str = "") -> Check:
    """Checks `seen` >= `limit`; a NaN fails."""
    return Check(
        name, seen >= limit, f"{_shown(seen)}{detail}", f"at least {_shown(limit)}"
    )


def share_at_most(
    name: str, part: int, whole: int, limit: float, detail: str = ""
) -> Check:
    """Checks part / whole <= limit; nothing of nothing is a share of 0."""
    share = part / whole if whole else 0.0
    seen = f"{share:.2%} ({part} of {whole}){detail}"
    return Check(name, share <= limit, seen, f"at most {limit:.2%}")


def _shown(number: float) -> str:
    """Returns a count in full, and any other number to six digits."""
    return str(number) if isinstance(number, int) else f"{number:g}"
