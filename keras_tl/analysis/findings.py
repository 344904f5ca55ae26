"""Findings of the checks before training: what is wrong, how bad, and what to do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from keras_tl import errors, files

Severity = Literal["error", "warning", "note"]
# Worst first.
SEVERITIES = ("error", "warning", "note")
# Page of the documentation that has a section for each code.
PAGE = "docs/how_to/check_data.md"


@dataclass(frozen=True)
class Finding:
    """One thing that a check has noticed.

    Attributes:
        code: Name that stays the same between versions, such as
            "exact-copies-across-splits".
        severity: "error": training fails, or its numbers are wrong; "warning": probably
            not as intended; "note": worth a look, and often harmless.
        message: What was noticed, with numbers, as sentences.
        remedy: What to do about it, in one sentence.
        examples: Names of the examples, layers or datasets that show it.
        leave_out: Files without which the finding is gone, for `--leave-out`; empty
            where leaving files out is no remedy. A text of a table is named by the
            table and its line.
        pictures: Indices of examples that show it, in the `records.Records` checked.
        surplus: Indices of the examples of `leave_out` there, also where these are not
            in files.
    """

    code: str
    severity: Severity
    message: str
    remedy: str
    examples: tuple[str, ...] = ()
    leave_out: tuple[Path, ...] = field(default=(), repr=False)
    pictures: tuple[int, ...] = field(default=(), repr=False)
    surplus: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self):
        if self.severity not in SEVERITIES:
            raise errors.unknown("severity", self.severity, SEVERITIES)

    @property
    def page(self) -> str:
        """Section of the documentation that explains the finding."""
        return f"{PAGE}#{self.code}"

    def to_json(self) -> dict:
        """Return the finding as JSON has it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "remedy": self.remedy,
            "examples": list(self.examples),
            "leave_out": [str(path) for path in self.leave_out],
            "page": self.page,
        }


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings with the worst first, in their order otherwise.

    >>> note, error = (Finding("a", s, "", "") for s in ("note", "error"))
    >>> [finding.severity for finding in ordered([note, error])]
    ['error', 'note']
    """
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def are_wrong(findings: Iterable[Finding]) -> bool:
    """Return whether there is an error among some findings."""
    return any(finding.severity == "error" for finding in findings)


def files_to_leave_out(findings: Iterable[Finding]) -> list[Path]:
    """List the files without which errors and warnings are gone, sorted."""
    return sorted(
        {
            path
            for finding in findings
            if finding.severity != "note"
            for path in finding.leave_out
        }
    )


def write_fix_list(path: Path | str, findings: Iterable[Finding]) -> int:
    """Write the files to leave out to a new file, one in each line.

    Args:
        path: A file that does not exist yet.
        findings: The findings of a check.

    Returns:
        The number of files in it.

    Raises:
        InputError: The file exists, or cannot be written.
    """
    check_new(path, "fix_list")
    paths = files_to_leave_out(findings)
    files.write_text(path, "".join(f"{path.absolute()}\n" for path in paths))
    return len(paths)


def check_new(path: Path | str, argument: str) -> None:
    """Raise `InputError` where a file that is to be written exists already."""
    if Path(path).exists() or Path(path).is_symlink():
        raise errors.expected(
            argument,
            "name a file that does not exist yet",
            str(path),
            "Nothing is overwritten: choose another name, or move that one away.",
        )


def named(names: Sequence[str], most: int = 3) -> str:
    """Name the first of some examples, and count the others.

    >>> named(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most:,} more"
