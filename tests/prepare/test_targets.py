"""The task is found from the target's shape; a target that only half has a shape is refused."""

from __future__ import annotations

import pytest

from glmops.prepare.targets import BadRow, labels_in, task_of, triples_in

TRIPLE = '{"predicate": "作者", "object_type": "人物", "object": "甲", "subject": "乙"}'


@pytest.mark.parametrize(
    ("target", "task"),
    [
        ('["耳机"]', "classification"),
        (' ["耳机", "咖啡"]\n', "classification"),
        (f"```json\n[{TRIPLE}]\n```", "triples"),
        (f"```json\n[{TRIPLE}, {TRIPLE}]\n```\n", "triples"),
        (f"先看人物，再看作品：\n```json\n[{TRIPLE}]\n```\n以上。", "triples"),
        ("```json\n[]\n```", "triples"),
        ('```json\n[{"predicate": "a", "subject": "b```", "object": "c"}]```', "triples"),
        ("一句普通的回答。", "generation"),
        ('{"a": 1}', "generation"),
        ("```python\nprint([1])\n```", "generation"),
        ('这样写：\n```json\n{"a": 1}\n```', "generation"),
        ("见下文 ```json 没有写完", "generation"),
    ],
)
def test_the_shape_of_a_target_tells_its_task(target: str, task: str) -> None:
    assert task_of(target) == task


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("[]", "is empty"),
        ('["耳机"', "is not JSON"),
        ('["耳机"] 好', "more text after its end at character 8"),
        ('["耳机"]["咖啡"]', "a second JSON value at character 7"),
        ('["耳机", ""]', "item 2 is empty text, not a label"),
        ('["耳机", " "]', "item 2 is empty text, not a label"),
        (r'["\ud800"]', "spells half a character"),
        ("[3]", "item 1 is a number, not a label"),
        ("[true]", "item 1 is true, not a label"),
        ('[["耳机"]]', "item 1 is a list, not a label"),
        (f"[{TRIPLE}]", "triples belong in a ```json block"),
        ("[NaN]", "is not JSON (NaN is no JSON number)"),
        ("[" * 100_000, "is nested too deeply"),
        ("[" + "1" * 5000 + "]", "is not JSON"),
        (f"```json\n[{TRIPLE}", "is not JSON"),
        (f"```json\n[{TRIPLE}]", "is not closed after its JSON"),
        (f"```json\n[{TRIPLE}] 好\n```", "is not closed after its JSON"),
        (f"```json\n[{TRIPLE}]\n```\n```json\n[]\n```", "more than one ```json block"),
        (f"```json\n{TRIPLE}\n```", "is an object, not a list of triples"),
        ('```json\n["耳机"]\n```', "item 1 is text, not an object"),
        ('```json\n[{"predicate": "a", "subject": "b"}]\n```', "'object' of item 1 is missing"),
        (
            '```json\n[{"predicate": "a", "subject": 3, "object": "c"}]\n```',
            "'subject' of item 1 is a number",
        ),
        (
            '```json\n[{"predicate": "a", "predicate": "b", "subject": "s", "object": "o"}]\n```',
            "the key 'predicate' stands twice",
        ),
    ],
)
def test_a_target_that_begins_with_a_shape_must_keep_it(target: str, reason: str) -> None:
    with pytest.raises(BadRow) as caught:
        task_of(target)
    assert reason in str(caught.value)


def test_labels_and_triples_come_out_as_they_stand() -> None:
    assert labels_in('["耳机", "咖啡"]') == ["耳机", "咖啡"]
    assert [item["subject"] for item in triples_in(f"好：```json\n[{TRIPLE}]\n```")] == ["乙"]
