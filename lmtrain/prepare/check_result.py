"""The result of a check of a corpus: findings in sentences, and the figures that they come from."""

from dataclasses import asdict, dataclass, field
from typing import Any

from lmtrain.prepare.corpus_quality import Effect


@dataclass(frozen=True)
class Finding:
    """A sentence for the user.

    Args:
        level: "error" if training will fail or its figures will mean nothing, "warning" if they may.
    """

    level: str
    message: str


@dataclass(frozen=True)
class Coverage:
    """How well a dictionary fits the corpus.

    Args:
        choice: of `dictionary=`: "corpus", "chars" or "file".
        size: entries of the dictionary.
        covered: by part, the share of its items that are in the dictionary.
        unknown: the most frequent items that are not, with how often they occur in the corpus.
    """

    choice: str
    size: int
    covered: dict[str, float]
    unknown: dict[str, int]


@dataclass
class Check:
    """The findings, and all figures.

    Args:
        path: of the corpus.
        findings: errors first.
        parts: for train, valid and test the figures of `PartScan`, as JSON has them.
        scripts, blocks: how many characters belong to each Unicode script and block, most frequent first.
        languages: how many documents of a sample of train are surely in each language.
        effects: the effects that the optional steps of scripts/prepare_corpus.py would have on that sample.
        not_tried: checks that were left out → the missing package.
        dictionaries: how well each choice of `dictionary=` fits.
        splits: the items of each training split.
        validation: how many validations an epoch has, after how many items, on how many, and their share of the time.
        cost: the fields of `Cost`; None if nothing was tried.
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
