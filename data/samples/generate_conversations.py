"""Writes data/samples/conversations: made-up talks at a counter, from one seed.

    python data/samples/generate_conversations.py [FOLDER]

talks.jsonl: ``{"conversations": [{"role", "content"}, …]}`` a line, of one to four exchanges, some
with a system text in front. The last answer follows from the last question and what was said before
it: what is wanted, when, and who asked.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

Turn = tuple[str, str]
"""A question and its answer."""


def words(text: str) -> list[str]:
    return text.split()


SEED = 59
FOLDER = Path(__file__).parent / "conversations"
ORDERS, VISITS, HOURS = 340, 300, 90

SHOPS = ("你是果蔬店的店员。", "你在前台接电话。", "你是街角小店的老板。")
GREETINGS = (
    ("你好。", "您好，请讲。"),
    ("在吗？", "在的，您说。"),
    ("打扰一下。", "不客气，请说。"),
)
GOODS = {
    "斤": words("苹果 青菜 土豆 橘子 豆角 葡萄 莲藕 黄瓜"),
    "瓶": words("酱油 牛奶 香醋 果汁 米酒"),
    "盒": words("鸡蛋 草莓 饼干 茶叶 豆腐"),
    "束": words("百合 玫瑰 雏菊"),
}
NUMBERS = words("一 两 三 四 五 六 七 八 九 十")
PLACES = words("东门 西门 三号楼 五号楼 幼儿园 传达室 地铁口 社区食堂 河边亭子 快递柜")
DAYS = words("周一 周二 周三 周四 周五 周六 周日")
TIMES = words("上午九点 上午十点 中午十二点 下午两点 下午四点 晚上七点")
SERVICES = words("理发 洗牙 修表 量衣 验光 补习 按摩 配钥匙")
SURNAMES = words("林 沈 顾 许 陆 苏 程 叶 江 温 周 韩 宋 方 罗 秦")
PEOPLE = ("先生", "女士")


def order(random_: random.Random) -> list[Turn]:
    """What is wanted comes first; where it goes, and how much of it, last."""
    measure = random_.choice(list(GOODS))
    thing = random_.choice(GOODS[measure])
    number, place = random_.choice(NUMBERS), random_.choice(PLACES)
    time = random_.choice(TIMES)
    return [
        (f"有{thing}吗？", f"有{thing}，您要多少？"),
        (
            f"要{number}{measure}，{time}送到{place}。",
            f"好的，{number}{measure}{thing}，{time}送到{place}。",
        ),
    ]


def visit(random_: random.Random) -> list[Turn]:
    """When and what for come first, who asks last."""
    day, time, service = (random_.choice(each) for each in (DAYS, TIMES, SERVICES))
    name = random_.choice(SURNAMES) + random_.choice(PEOPLE)
    digits = "".join(random_.choices("0123456789", k=4))
    return [
        (f"我想约{day}{time}{service}。", f"{day}{time}可以{service}，您贵姓？"),
        (f"我是{name}，尾号{digits}。", f"{name}，{day}{time}{service}，尾号{digits}，记下了。"),
    ]


def hours(random_: random.Random) -> list[Turn]:
    """One question, whose answer is in it."""
    day, time, service = (random_.choice(each) for each in (DAYS, TIMES, SERVICES))
    return [(f"{day}{time}能{service}吗？", f"{day}{time}能{service}，欢迎您来。")]


def talk(random_: random.Random, turns: list[Turn]) -> str:
    """A talk as a line, sometimes with a greeting and a system text in front of it."""
    said = []
    if random_.random() < 0.3:
        said.append(("system", random_.choice(SHOPS)))
    if random_.random() < 0.4:
        turns = [random_.choice(GREETINGS), *turns]
    for question, answer in turns:
        said += [("user", question), ("assistant", answer)]
    content = [{"role": role, "content": text} for role, text in said]
    return json.dumps({"conversations": content}, ensure_ascii=False)


def main(folder: Path) -> None:
    random_ = random.Random(SEED)
    lines: dict[str, str] = {}
    for make, count in ((order, ORDERS), (visit, VISITS), (hours, HOURS)):
        wanted = len(lines) + count
        while len(lines) < wanted:
            turns = make(random_)
            lines.setdefault(str(turns), talk(random_, turns))
    shuffled = list(lines.values())
    random_.shuffle(shuffled)
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(line + "\n" for line in shuffled)
    (folder / "talks.jsonl").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
