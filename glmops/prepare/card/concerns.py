"""What a reviewer should know first: each thing that may be wrong with the rows, in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

Card = Mapping[str, Any]
Level = Literal["stop", "look", "note"]
LEVELS: tuple[Level, ...] = ("stop", "look", "note")
"""stop: a model trained on these rows is not to be trusted. look: a person should look at it.
note: a fact about the files that is good to know."""
RARE = 5
"""A label with fewer train rows is hardly learnt."""
MOST_OF_ONE = 0.8
UNEVEN = 0.01
_BROKEN = "replacement-character"


class Concern(NamedTuple):
    level: Level
    what: str


def concerns(card: Card) -> list[dict[str, str]]:
    """The concerns, the gravest first."""
    found = [concern for rule in _RULES for concern in rule(card)]
    found.sort(key=lambda concern: LEVELS.index(concern.level))
    return [concern._asdict() for concern in found]


def share(part: int, whole: int) -> str:
    """A share in per cent, never 0 % or 100 % of what is not nothing or all."""
    per_cent = 100 * part / max(whole, 1)
    if 0 < per_cent < 0.1:
        return "less than 0.1 %"
    if 99.9 < per_cent < 100:
        return "more than 99.9 %"
    return f"{per_cent:.1f} %"


def _rows(card: Card) -> Iterator[Concern]:
    rows = card["rows"]
    refused, read, repeated = rows["refused"], rows["read"], rows["duplicates"]
    if refused:
        level: Level = "stop" if refused == read else "look"
        yield Concern(level, f"Refused rows: {_n(refused)} of {_n(read)} ({share(refused, read)}).")
    if repeated:
        what = f"Rows that repeat another one word for word: {_n(repeated)}"
        part = share(repeated, rows["accepted"])
        yield Concern("look", f"{what} ({part} of the good ones); each is learnt once.")
    for name, file in card["files"].items():
        if file["rows"] and file["duplicates"] == file["rows"]:
            yield Concern("stop", f"Every row of {name} repeats a row that was read before it.")
    if unanswered := rows.get("unanswered", 0):
        what = f"Rows without an answer, to predict and not to learn: {_n(unanswered)}."
        yield Concern("look", what)


def _overlaps(card: Card) -> Iterator[Concern]:
    leaks, conflicts = card["leaks"], card["conflicts"]
    near = card["duplicates"]["near"]
    if found := leaks["text"] + leaks["near"]:
        what = f"Rows whose text, or a near copy of it, is on another side: {_n(found)}"
        if leaks["kept"]:
            yield Concern("stop", f"{what}, and they are kept. The test rows measure nothing then.")
        else:
            yield Concern("look", f"{what}, all refused.")
    if texts := conflicts["texts"]:
        what = (
            f"Texts that stand under several labels: {_n(texts)}, in {_n(conflicts['rows'])} rows"
        )
        if "all" in card["splits"]:  # of raw rows, nothing is decided yet
            yield Concern("look", f"{what}; a recipe refuses them by default.")
        elif conflicts["kept"]:
            yield Concern("stop", f"{what}, and they are kept.")
        else:
            yield Concern("look", f"{what}, all refused.")
    if texts := near["texts"]:
        what = f"Texts that are near copies of others (alike by {near['threshold']} or more)"
        gone = f"; rows dropped for it: {_n(near['dropped'])}" if near["dropped"] else ""
        yield Concern("look", f"{what}: {_n(texts)}{gone}.")


def _labels(card: Card) -> Iterator[Concern]:
    labels = card["labels"]
    first = next(iter(labels))  # train, or the only side there is
    if absent := card["absent_labels"]:
        yield Concern("look", f"Labels that no row has: {_list(absent)}.")
    learnt = {label: rows for label, rows in labels[first].items() if rows}
    unseen = [
        label
        for label in {each: None for side in labels.values() for each in side}
        if label not in learnt
    ]
    if unseen:
        yield Concern("stop", f"Labels that are tested and never learnt: {_list(unseen)}.")
    for side, counts in labels.items():
        if counts and (missing := [label for label in learnt if not counts.get(label)]):
            what = f"Labels that are learnt and have no row in {side}: {_list(missing)}."
            yield Concern("look", what)
    if len(learnt) == 1:
        yield Concern("stop", f"Every label is the same one: {_list(list(learnt))}.")
    if rare := [label for label, rows in learnt.items() if rows < RARE]:
        where = "" if first == "all" else f" in {first}"
        yield Concern("look", f"Labels with fewer than {RARE} rows{where}: {_list(rare)}.")
    for label, rows in learnt.items():
        if len(learnt) > 1 and rows > MOST_OF_ONE * sum(learnt.values()):
            part = share(rows, sum(learnt.values()))
            yield Concern("look", f"One label outweighs the others: {label} has {part} of them.")
    if (even := card["stratification"]) and even["p"] < UNEVEN:
        off = even["furthest"]
        what = f"The labels lie unevenly on the sides (p = {even['p']}): the share of"
        side = f"{off['label']} in {off['split']} is off by {100 * off['difference']:.1f} points"
        yield Concern("look", f"{what} {side}.")


def _texts(card: Card) -> Iterator[Concern]:
    if found := card["placeholders"]:
        named = _list([f"{name} (rows: {_n(rows)})" for name, rows in found.items()])
        yield Concern("look", f"Stand-ins in place of text are left in the rows: {named}.")
    if broken := card["oddities"].get(_BROKEN, 0):
        what = f"Replacement characters (U+FFFD): {_n(broken)}"
        yield Concern("look", f"{what}. Text was lost before it came here.")
    different, rows = card["answers"]["different"], _answered(card)
    free = not any(card["labels"].values())
    if free and rows > different and 2 * different <= rows:
        what = f"Different answers: only {_n(different)} in {_n(rows)} different rows"
        yield Concern("look", f"{what}. A model may learn to repeat them.")


def _files(card: Card) -> Iterator[Concern]:
    for name, file in card["files"].items():
        said = []
        if file["encoding"] == "gb18030":
            said.append("is GB18030, not UTF-8")
        if file.get("mark"):
            said.append("starts with a byte-order mark")
        if crlf := file.get("crlf", 0):
            every = "all" if crlf == file["lines"] else _n(crlf)
            said.append(f"ends {every} of its {_n(file['lines'])} lines with CRLF")
        if not file.get("final", True):
            said.append("has no line end behind its last line")
        if file.get("lines") == 1 and file["rows"] > 1:
            said.append(f"holds its {_n(file['rows'])} rows on one line")
        if unread := file.get("unread_columns"):
            said.append(
                f"has columns that are not read: {_list([c or '(no name)' for c in unread])}"
            )
        if said:
            yield Concern("note", f"{name} {'; '.join(said)}.")
    for name, count in card["oddities"].items():
        if name != _BROKEN:
            yield Concern("note", f"{name}: {_n(count)}")
    if "all" in card["splits"]:
        counts = card["splits"]["all"]
        if again := counts["rows"] - counts["texts"]:
            yield Concern("note", f"different rows with the text of another row: {_n(again)}")


_RULES = (_overlaps, _rows, _labels, _texts, _files)


def _answered(card: Card) -> int:
    """Different rows with an answer; none where rows without one are among them."""
    if not card["lengths"] or card["rows"].get("unanswered", 0):
        return 0
    return int(card["lengths"]["target"]["rows"])


def _n(count: int) -> str:
    return f"{count:,}"


def _list(names: list[str], most: int = 12) -> str:
    more = len(names) - most
    return ", ".join([*names[:most], *([f"{more} more"] if more > 0 else [])])
