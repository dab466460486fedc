"""What an answer says. Every expectation is read off the text by hand."""

from __future__ import annotations

import itertools

import pytest

from glmops.evaluate.reading import Triple, parse_label, parse_triples
from glmops.prepare.targets import task_of

DEEP = "[" * 100_000
HUGE = "9" * 10_000  # more digits than Python turns into an integer
CAT = Triple("喜剧之王", "主演", "周星驰", "影视作品", "人物")
BARE = Triple("喜剧之王", "主演", "周星驰", None, None)
FACT = '"subject": "喜剧之王", "predicate": "主演", "object": "周星驰"'
TYPES = '"subject_type": "影视作品", "object_type": "人物"'


def fenced(text: str) -> str:
    return f"```json\n{text}\n```"


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ('["水果"]', "水果"),
        (' [ " 水果 " ]\n', "水果"),
        ('["\\u6c34\\u679c"]', "水果"),
        ("水果", "水果"),
        ("  news_tech \n", "news_tech"),
        ("3", "3"),
        ('["a]b"]', "a]b"),
        ("]", "]"),
        ("我不知道。", "我不知道。"),
        ('["水果", "水果"]', "水果"),
        ('["水果", "衣服"]', '["水果", "衣服"]'),
        ('["衣服", " 水果", "衣服"]', '["水果", "衣服"]'),
    ],
)
def test_a_label_is_read_from_a_list_or_from_a_bare_line(answer: str, label: str) -> None:
    assert parse_label(answer) == label


@pytest.mark.parametrize(
    "answer",
    [
        "", " ", "\n\u3000\n", "[]", "[", '["水果"', '["水果', '["水果"] 好', '["水果"]]',
        '["水果", 1]', '["水果", ""]', '["水果", ["衣服"]]', '[["水果"]]',
        '[{"label": "水果"}]', '{"label": "水果"}',
        "[1]", "[null]", "[NaN]", "[true]", f"[{HUGE}]", "[1e999]", '[""]', '[" "]',
        "水果\n衣服", "水果\r衣服", "水果\u2028衣服", fenced('["水果"]'),
        DEEP, DEEP + "]" * 100_000,
        '{"a":' * 50_000, '["\\ud800"]', '["\t"]', '["水果",]', "['水果']", "[水果]", '["\\x"]',
    ],
    ids=lambda answer: answer[:20],
)  # fmt: skip
def test_what_is_no_label_is_unparsable(answer: str) -> None:
    assert parse_label(answer) is None


def test_triples_are_read_with_types_only_when_both_are_given() -> None:
    assert parse_triples(fenced(f"[{{{FACT}, {TYPES}}}]")) == {CAT}
    assert parse_triples(fenced(f"[{{{TYPES}, {FACT}}}]")) == {CAT}
    assert parse_triples(fenced(f"[{{{FACT}}}]")) == {BARE}
    assert parse_triples(fenced(f'[{{{FACT}, "subject_type": "影视作品"}}]')) == {BARE}
    assert parse_triples(fenced(f'[{{{FACT}, "subject_type": 1, "object_type": null}}]')) == {BARE}
    assert parse_triples(fenced(f'[{{{FACT}, "confidence": 0.5}}]')) == {BARE}


def test_a_repeated_triple_counts_once_and_no_triples_are_an_empty_set() -> None:
    assert parse_triples(fenced(f"[{{{FACT}}}, {{{FACT}}}]")) == {BARE}
    assert parse_triples(fenced("[]")) == frozenset()


def test_text_around_the_first_fenced_block_does_not_matter() -> None:
    one = fenced(f"[{{{FACT}}}]")
    assert parse_triples(f"抽取结果如下：\n{one}\n以上。") == {BARE}
    assert parse_triples(f"{one}\n{fenced('[]')}") == {BARE}
    assert parse_triples(f"```json[{{{FACT}}}]```") == {BARE}


def test_backticks_inside_a_string_do_not_close_the_block() -> None:
    code = fenced('[{"subject": "a", "predicate": "b", "object": "```"}]')
    assert parse_triples(code) == {Triple("a", "b", "```", None, None)}


@pytest.mark.parametrize(
    "answer",
    [
        "", "水果", "```", "```json", "```json\n", "```json\n```", f"[{{{FACT}}}]",
        f"```\n[{{{FACT}}}]\n```", f"```JSON\n[{{{FACT}}}]\n```", f"```json\n[{{{FACT}}}]",
        f"```json\n[{{{FACT}}}]\n``", f"```json\n[{{{FACT}}}] 完\n```",
        f"```json\n[{{{FACT}}}\n```",
        fenced(f"{{{FACT}}}"), fenced("null"), fenced("1"), fenced(HUGE), fenced("NaN"),
        fenced('"a"'), fenced("[1]"), fenced("[null]"), fenced("[[]]"), fenced("[{}]"),
        fenced(f"[{{{FACT}}}, 1]"), fenced(f"[{{{FACT}}}, {{}}]"), fenced(f"[{{{FACT}}},]"),
        fenced('[{"subject": "a", "predicate": "b"}]'),
        fenced('[{"subject": "a", "predicate": "b", "object": 1986}]'),
        fenced('[{"subject": "a", "predicate": "b", "object": null}]'),
        fenced('[{"subject": "a", "predicate": "b", "object": ["c"]}]'),
        fenced('[{"subject": "a", "predicate": "b", "object": {"@value": "c"}}]'),
        fenced(f'[{{{FACT}, "subject": "别的"}}]'), fenced(f'[{{{FACT}, "n": NaN}}]'),
        fenced(f'[{{{FACT}, "n": {HUGE}}}]'), fenced(f'[{{{FACT}, "n": {DEEP}}}]'), fenced(DEEP),
        fenced(DEEP + "]" * 100_000), fenced('[{"subject": "a\nb"}]'), fenced("[{'subject': 1}]"),
    ],
    ids=lambda answer: answer[:20],
)  # fmt: skip
def test_what_is_not_a_closed_block_of_triples_is_unparsable(answer: str) -> None:
    assert parse_triples(answer) is None


def test_no_text_whatever_makes_a_reader_raise() -> None:
    pieces = ["[", "{", '"', "```json", "```", "\n", "\\", "\x00", "\ud800", "9e", "null", ":", ","]
    for parts in itertools.product(pieces, repeat=3):
        text = "".join(parts)
        for answer in (text, f"```json{text}", fenced(text), text * 400):
            label, triples = parse_label(answer), parse_triples(answer)
            assert label is None or label.encode("utf-8").strip()
            assert triples is None or triples == frozenset()


@pytest.mark.parametrize(
    "target",
    [
        '["水果"]', ' ["水果"] ', '["水果", "衣服"]', '["水果", "水果"]', '["a\\nb"]', '["[]"]',
        fenced("[]"), fenced(f"[{{{FACT}, {TYPES}}}]"), fenced(f"[{{{FACT}, \"x\": [1]}}]"),
        f"如下：{fenced(f'[{{{FACT}}}]')}。", f"```json[{{{FACT}}}]```", "今天天气很好。",
    ],
    ids=lambda target: target[:20],
)  # fmt: skip
def test_what_prepare_takes_for_a_target_evaluate_can_read(target: str) -> None:
    task = task_of(target)
    if task == "classification":
        assert parse_label(target) is not None
    elif task == "triples":
        assert parse_triples(target) is not None
    else:
        assert target == "今天天气很好。"
