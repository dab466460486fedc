"""Writes data/samples/adgen: made-up clothes and made-up advertisements for them, from one seed.

    python data/samples/generate_adgen.py [FOLDER]

ads.json: an object a line, ``content`` (attributes as ``名#值``, joined by ``*``) and ``summary``.
The text says every attribute once, in their order, and a value always in the same words: what to
write can be learnt from few rows, and a text that leaves an attribute out is worse.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

SEED = 43
FOLDER = Path(__file__).parent / "adgen"
ROWS = 620

# Kind of clothes → the attributes that it alone has.
KINDS = {
    "上衣": {
        "衣样式": ("衬衫", "卫衣", "毛衣", "西装", "风衣"),
        "衣领型": ("圆领", "翻领", "立领"),
        "衣袖长": ("长袖", "短袖", "七分袖"),
    },
    "裙": {
        "裙型": ("百褶裙", "直筒裙", "鱼尾裙", "蓬蓬裙"),
        "裙长": ("短裙", "中长裙", "长裙"),
        "裙款式": ("拼接", "腰带", "吊带", "口袋"),
    },
    "裤": {
        "裤型": ("阔腿裤", "直筒裤", "哈伦裤", "背带裤"),
        "裤长": ("九分裤", "长裤", "短裤"),
        "裤腰型": ("高腰", "松紧腰"),
    },
}
SHARED = {
    "版型": ("宽松", "显瘦", "修身"),
    "材质": ("棉", "羊毛", "真丝", "牛仔布", "雪纺", "亚麻"),
    "颜色": ("白色", "黑色", "粉色", "藏青色", "卡其色", "墨绿色"),
    "风格": ("简约", "复古", "休闲", "文艺", "通勤"),
    "图案": ("条纹", "碎花", "格子", "纯色", "波点"),
}
# How an attribute is said; {v} is its value.
SAID = {
    "版型": "{v}的版型不挑身材",
    "材质": "选用{v}面料",
    "颜色": "{v}衬得肤色更亮",
    "风格": "透着{v}的味道",
    "图案": "{v}图案点缀其间",
    "衣样式": "做成{v}的样子",
    "衣领型": "{v}修饰颈部线条",
    "衣袖长": "{v}活动自如",
    "裙型": "{v}的轮廓灵动",
    "裙长": "{v}的长度刚好",
    "裙款式": "{v}的设计有心思",
    "裤型": "{v}走路带风",
    "裤长": "{v}拉长腿部比例",
    "裤腰型": "{v}穿着不勒",
}
MATERIALS = {
    "棉": "亲肤又透气",
    "羊毛": "轻薄却保暖",
    "真丝": "摸着顺滑",
    "牛仔布": "耐磨有型",
    "雪纺": "垂坠飘逸",
    "亚麻": "凉爽吸汗",
}
CLOSINGS = {
    "上衣": "搭配什么都好看。",
    "裙": "出门约会很合适。",
    "裤": "每天上班都能穿。",
}
OPENINGS = {"上衣": "日常穿的上衣", "裙": "让人心动的裙子", "裤": "百搭的裤子"}


def clothes(random_: random.Random) -> tuple[str, dict[str, str]]:
    """A kind of clothes and some of its attributes, in a fixed order."""
    kind = random_.choice(list(KINDS))
    known = {**SHARED, **KINDS[kind]}
    chosen = random_.sample(list(known), k=random_.randint(4, 6))
    return kind, {name: random_.choice(known[name]) for name in known if name in chosen}


def content(kind: str, attributes: dict[str, str]) -> str:
    return "*".join(f"{name}#{value}" for name, value in {"类型": kind, **attributes}.items())


def summary(kind: str, attributes: dict[str, str]) -> str:
    """The advertisement: opening, a clause an attribute, closing."""
    clauses = [f"这是一件{OPENINGS[kind]}"]
    for name, value in attributes.items():
        clauses.append(SAID[name].format(v=value))
        if name == "材质":
            clauses.append(MATERIALS[value])
    return "，".join([*clauses, CLOSINGS[kind]])


def main(folder: Path) -> None:
    random_ = random.Random(SEED)
    rows: dict[str, str] = {}
    while len(rows) < ROWS:
        kind, attributes = clothes(random_)
        rows[content(kind, attributes)] = summary(kind, attributes)
    lines = [
        json.dumps({"content": said, "summary": text}, ensure_ascii=False) + "\n"
        for said, text in rows.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ads.json").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
