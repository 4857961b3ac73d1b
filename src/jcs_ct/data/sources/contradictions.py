"""Slices whose label and mask contradict each other: what is believed, and what is set aside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jcs_ct.choices import ContradictionRule
from jcs_ct.data.manifest import ManifestRow
from jcs_ct.data.manifest.manifest_checks import Findings, contradictions
from jcs_ct.data.manifest.manifest_problems import ManifestProblem, ProblemKind

#: Shown of a kind of contradiction.
_EXAMPLES = 3
_CHOICES: dict[ContradictionRule, str] = {
    "label-from-mask": "the label is the patient's, and masks were drawn on every slice",
    "drop-mask": "the label is the slice's, and masks were not drawn on every slice or mark something else",
    "set-aside": "neither is to be trusted: kept without label and mask",
}


@dataclass(frozen=True)
class Settled:
    """Rows whose labels and masks agree.

    Args:
        rows: All of them, in their order.
        notes: What was done, with counts and examples.
        problems: Contradictions that need a decision.
    """

    rows: tuple[ManifestRow, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[ManifestProblem, ...] = ()


def settle(rows: Sequence[ManifestRow], found: Findings, rule: ContradictionRule | None) -> Settled:
    """Labels and masks after ``rule``.

    Without a rule, slices that are labelled infected and have an empty mask are set aside: the label may be their
    patient's (then it is wrong) or the mask may not have been drawn (then it is), and neither a wrong label nor a
    wrong mask comes in when both are left out. They are a problem all the same where no infected slice has a mask
    that marks anything; and slices that are labelled uninfected and have a marked mask always are.

    Args:
        rows: Of the manifest.
        found: What the files hold.
        rule: What the user decided.
    """
    against = contradictions(rows, found)
    if not against:
        return Settled(tuple(rows))
    empty = [row for row in rows if row.label == 1 and found.lesion_pixels.get(row) == 0]
    marked = [row for row in rows if row.label == 0 and found.lesion_pixels.get(row, 0) > 0]
    drawn = any(row.label == 1 and found.lesion_pixels.get(row, 0) > 0 for row in rows)
    chosen: dict[ManifestRow, ContradictionRule] = {}
    if rule is None:
        chosen = dict.fromkeys(empty, "set-aside") if drawn else {}
    elif rule != "refuse":
        chosen = dict.fromkeys([*empty, *marked], rule)
    left = {*empty, *marked} - chosen.keys()
    kinds = {ProblemKind.EMPTY_MASK: empty, ProblemKind.MARKED_MASK: marked}
    open_kinds = {kind for kind, own in kinds.items() if not left.isdisjoint(own)}
    remedy = "--contradictions " + "; or ".join(f"{name} ({meaning})" for name, meaning in _CHOICES.items())
    return Settled(
        tuple(_settled(row, chosen[row]) if row in chosen else row for row in rows),
        notes=_notes(rows, [row for row in empty if row in chosen], rule)
        + _notes(rows, [row for row in marked if row in chosen], rule),
        problems=tuple(replace(one, remedy=remedy) for one in against if one.kind in open_kinds),
    )


def _settled(row: ManifestRow, rule: ContradictionRule) -> ManifestRow:
    if rule == "label-from-mask":
        return replace(row, label=1 - int(row.label or 0))
    if rule == "drop-mask":
        return replace(row, mask=None, lesion_labels=())
    return replace(row, label=None, mask=None, lesion_labels=())


def _notes(
    rows: Sequence[ManifestRow], contrary: Sequence[ManifestRow], rule: ContradictionRule | None
) -> tuple[str, ...]:
    """What was done with the rows of one kind of contradiction, and why it might be otherwise."""
    if not contrary:
        return ()
    examples = ", ".join(str(row.path.name) for row in contrary[:_EXAMPLES])
    kind = "infected and have an empty mask" if contrary[0].label else "uninfected and have a mask that marks pixels"
    said = f"{len(contrary)} slice(s) are labelled {kind}, as {examples}"
    done = {
        "label-from-mask": "they are labelled by their masks",
        "drop-mask": "their masks are left out, their labels stay",
    }.get(rule or "", "set aside: they stay listed without label and mask, and are neither trained on nor judged")
    if rule is not None:
        return (f"{said}: {done}",)
    hint = ""
    if _labels_are_of_patients(rows):
        hint = "; the label never differs within a patient, as a patient's label that was written to each slice"
    choices = "; ".join(f"--contradictions {name} if {_CHOICES[name]}" for name in ("label-from-mask", "drop-mask"))
    return (f"{said}: {done}{hint}. To use them: {choices}",)


def _labels_are_of_patients(rows: Sequence[ManifestRow]) -> bool:
    labels: dict[str, set[int | None]] = defaultdict(set)
    for row in rows:
        labels[row.patient].add(row.label)
    return all(len(own) == 1 for own in labels.values())
