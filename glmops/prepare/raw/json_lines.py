"""JSON lines → fields. Plain rows by the column; every other row by the strict decoder.

A row is plain when it is one object of text values in which the only escapes are of two
characters. Between its quotes such a row holds its keys and values and nothing else, so cutting it
at the quotes *is* decoding it. What is not plain, or not what the format asks for, is decoded alone
and its fault named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

# Both characters of an escape, taken together from the left as a JSON reader does, are kept as one
# character that plain rows do not hold, until the row has been cut at its quotes.
_ESCAPES = {
    '\\"': "\x01",
    "\\\\": "\x02",
    "\\n": "\x03",
    "\\t": "\x04",
    "\\r": "\x05",
    "\\/": "\x06",
}
_MEANT = {"\x01": '"', "\x02": "\\", "\x03": "\n", "\x04": "\t", "\x05": "\r", "\x06": "/"}
_CONTROL = r"[\x00-\x08\x0b-\x1f]"
_BLANKS = " \t\r"
_MOST_PAIRS = 24


def plain_rows(
    lines: pl.DataFrame,
    keys: Mapping[str, str],
    optional: Sequence[str] = (),
    *,
    exact: bool,
    controls: bool = True,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The plain rows, with a String column per field (null where it is absent), and the rest.

    Args:
        lines: ``raw`` and any other columns; none is named like a field.
        keys: Field → its key in the object. Every row must have each key once.
        optional: Fields whose key may be absent.
        exact: Whether a row with any other key is left to the rest.
        controls: Whether a row may hold a control character; such a row is not plain.
    """
    raw = pl.col("raw")
    escaped = lines.select(raw.str.contains("\\", literal=True).any()).item()
    text = raw.str.replace_many(list(_ESCAPES), list(_ESCAPES.values())) if escaped else raw
    odd = raw.str.contains(_CONTROL) if controls else pl.lit(False)
    frame = lines.with_row_index(" place").with_columns(text.alias(" text"), odd.alias(" odd"))
    frame = frame.with_columns(
        pl.col(" text").str.count_matches('"', literal=True).alias(" quotes")
    )
    wanted = {
        key: all(field not in optional for field in keys if keys[field] == key)
        for key in keys.values()
    }
    most = len(wanted) if exact else _MOST_PAIRS
    pairs = [
        count // 4
        for count in frame[" quotes"].unique().sort().to_list()
        if count and count % 4 == 0 and sum(wanted.values()) <= count // 4 <= most
    ]
    found = [_cut(frame, count, keys, wanted, exact=exact) for count in pairs]
    if not found:
        nothing = lines.clear().with_columns(pl.lit(None, pl.String).alias(name) for name in keys)
        return nothing, lines
    plain = pl.concat(found).sort(" place")
    if plain.height == lines.height:
        return plain.drop(" place"), lines.clear()
    rest = frame.select(" place", *lines.columns).join(plain, on=" place", how="anti")
    return plain.drop(" place"), rest.sort(" place").drop(" place")


def _cut(
    frame: pl.DataFrame,
    pairs: int,
    fields: Mapping[str, str],
    wanted: Mapping[str, bool],
    *,
    exact: bool,
) -> pl.DataFrame:
    """The plain ones among the rows with ``pairs`` times four quotes.

    Args:
        wanted: Key → whether it must be there.
    """
    rows = frame.filter((pl.col(" quotes") == 4 * pairs) & ~pl.col(" odd"))
    cut = rows.select(pl.col(" text").str.split_exact('"', 4 * pairs)).to_series().struct.unnest()
    rows = pl.concat([rows, cut.rename(lambda name: f" {name}")], how="horizontal")
    part = [pl.col(f" field_{place}") for place in range(4 * pairs + 1)]
    keys, values = part[1::4], part[3::4]
    marks = ["{", *[":", ","] * (pairs - 1), ":", "}"]
    rules = [
        text.str.strip_chars(_BLANKS) == mark for text, mark in zip(part[::2], marks, strict=True)
    ]
    # A raw tab is no JSON inside quotes; a backslash that is left is an escape of another kind.
    rules += [~text.str.contains(r"[\t\r\\]") for text in (*keys, *values)]
    for key, needed in wanted.items():
        times = pl.sum_horizontal((found == key).cast(pl.UInt8) for found in keys)
        rules.append(times == 1 if needed else times <= 1)
    if exact:
        rules += [found.is_in(list(wanted)) for found in keys]
    rows = rows.filter(pl.all_horizontal(rules))
    columns = [
        pl.coalesce(
            pl.when(found == key).then(value) for found, value in zip(keys, values, strict=True)
        )
        .str.replace_many(list(_MEANT), list(_MEANT.values()))
        .alias(field)
        for field, key in fields.items()
    ]
    kept = [name for name in frame.columns if name not in (" text", " odd", " quotes")]
    return rows.select(*kept, *columns)
