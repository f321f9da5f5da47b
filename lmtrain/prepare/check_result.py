"""What a check of a corpus found out."""

from dataclasses import asdict, dataclass, field
from typing import Any

from lmtrain.prepare.corpus_quality import Effect


@dataclass(frozen=True)
class Finding:
    """One thing that a user should know: "error" if training will not work or mean nothing, "warning" if it may not."""

    level: str
    message: str


@dataclass(frozen=True)
class Coverage:
    """How a dictionary fits: its size, the share of each part's items that it has, and the most frequent others."""

    choice: str
    size: int
    covered: dict[str, float]
    unknown: dict[str, int]


@dataclass
class Check:
    """All that was found out.

    Args:
        path: the corpus.
        findings: errors first.
        parts: of train, valid and test, what `PartScan` says, in a form for JSON.
        scripts, blocks: how many characters belong to each Unicode script and block, most frequent first.
        languages: how many documents of a sample of train are surely in each language.
        effects: what the optional steps of scripts/prepare_corpus.py would do to that sample.
        not_tried: what was not looked at, and the package that it takes.
        dictionaries: how each of the built-in choices fits.
        splits: how many items each training split has.
        validation: about validations: how often, how long.
        cost: what training takes.
    """

    path: str
    findings: list[Finding] = field(default_factory=list)
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    scripts: dict[str, int] = field(default_factory=dict)
    blocks: dict[str, int] = field(default_factory=dict)
    languages: dict[str, int] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    not_tried: dict[str, str] = field(default_factory=dict)
    dictionaries: list[Coverage] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, Any] | None = None

    @property
    def has_errors(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)

    def note(self, level: str, condition: Any, message: str) -> None:
        """Adds a finding if the condition holds."""
        if condition:
            self.findings.append(Finding(level, message))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
