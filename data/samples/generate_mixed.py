"""Writes data/samples/mixed: made-up rows for two tasks, from closed lists and one seed.

    python data/samples/generate_mixed.py [FOLDER]

classification.jsonl: which product does a review speak of? The label never stands in the review.
triples.jsonl: who made which work? Some sentences have a second clause, so two triples.
About a quarter of the sentences are asked about twice, in different words: a split by rows would
leak them. Every list is closed on purpose: a model of half a million parameters can learn them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

Make = Callable[[random.Random], tuple[str, str]]


def words(text: str) -> list[str]:
    return text.split()


SEED = 20
FOLDER = Path(__file__).parent / "mixed"
# Distinct sentences of each task; the first so many of them are asked about twice.
REVIEWS, REVIEWS_TWICE = 1250, 300
CREDITS, CREDITS_TWICE = 1090, 260

INSTRUCTION = "按要求阅读并作答。"

REVIEW_QUESTIONS = (
    "这条评价说的是哪种商品？用列表回答。",
    "判断下面评价的商品类别，写成列表。",
    "买家用的是什么？给出一个列表。",
    "下句讲的是哪类东西？\n只写列表。",
)
PHRASES = {
    "耳机": "低音很有力 降噪效果明显 戴久了会夹头 蓝牙从不断连 通话声音清楚 音质偏干",
    "咖啡": "入口微苦回甘 豆子烘得偏深 奶泡打得细 香气很足 酸味有点重 提神够用",
    "跑鞋": "大底回弹好 脚背有点挤 十公里不磨脚 网面很透气 抓地力一般 带子老是松",
    "民宿": "老板娘很热情 隔音差了些 窗外就是海 床单洗得干净 离车站不远 早饭花样多",
    "绘本": "画风很温柔 孩子每晚都要听 纸页厚不割手 故事短而有趣 翻页机关容易坏 颜色印得淡",
    "盆栽": "叶子油亮 到家掉了几片叶 浇水不用勤 土里有小虫 开花时满屋香 根系很壮实",
    "雨伞": "大风天也没翻 收起来很小 支架有点软 一甩就干 手柄握着舒服 遮两个人够大",
    "台灯": "光线不刺眼 调光档位多 底座有点晃 夜里看书刚好 开关接触不良 色温偏暖",
}
OPENINGS = words("""
    上周收到的 朋友推荐才买 第二次下单了 用了一个月 送给妈妈的
    趁打折入手 比想象中好 跟图片差不多 等了三天 说实话
""")
CLOSINGS = words("会再来 价格合适 客服也耐心 给四分吧 总体满意 有点后悔 包装还行 值得一试")

TRIPLE_QUESTIONS = (
    "抽出句中三元组，用JSON回答。",
    "句里有哪些关系？写成JSON。",
    "列出下句的三元组，\n只要JSON。",
    "谁做了什么作品？用JSON答。",
)
# Relation → the work's type and how a sentence says it; {t} is the title, {n} the name.
CLAUSES = {
    "作者": ("图书", ("《{t}》的作者是{n}", "{n}写了《{t}》", "《{t}》出自{n}笔下")),
    "译者": ("图书", ("《{t}》由{n}翻译", "{n}译出了《{t}》")),
    "导演": ("影片", ("《{t}》由{n}执导", "{n}拍了《{t}》", "《{t}》的导演是{n}")),
    "主演": ("影片", ("《{t}》由{n}主演", "{n}在《{t}》里演主角")),
    "配乐": ("影片", ("《{t}》由{n}配乐", "{n}给《{t}》作曲")),
}
# Relation → what a second clause about the same work may add.
SECOND = {
    "作者": ("译者", "，译本出自{n}"),
    "译者": ("作者", "，原著是{n}"),
    "导演": ("主演", "，主角是{n}"),
    "主演": ("配乐", "，音乐交给{n}"),
    "配乐": ("导演", "，片子由{n}导"),
}
SECOND_SHARE = 0.2

NAMES = words("""
    林晚舟 沈听澜 顾云生 许知夏 陆鸣谦 苏砚秋 程以南 叶疏桐 江照野 温如岚
    周牧遥 韩惜墨 宋临川 方既明 罗半夏 秦望舒 傅清和 白若溪 何守拙 唐映雪
    贺兰庭 孟归帆 梁忆柳 谢长宁 杜寻梅 袁思齐 蒋怀瑾 魏青禾 薛问渠 余漫山
    丁采薇 彭远志 曹溯流 邓秉烛 冯拾光 龚念慈 郝静姝 姜维桢 康乐天 廖星河
    马踏野 倪初阳 欧阳晓 潘锦书 钱伯雅 任飞白 施小满 谭空谷 汪碧落 武陵春
    夏侯川 萧玉衡 严冬青 尹素问 曾慕白 张无咎 赵平芜 郑南星 钟未鸣 邹雨眠
    安可期 毕方圆 柴门雪 段九思 费晴岚 葛长风 侯月笙 季扶苏 乐正阳 黎破晓
    莫愁予 聂双城 裴松寒 齐鲁青 饶竹西 盛夏至 陶然亭 万重山 奚囊锦 应怜君
""")
TITLES = words("""
    雾港来信 九月的桥 纸船与灯 南山旧事 第七个站台 盐田 迟到的春天 无人岛日记 青瓦之下 逆风骑行
    白鹭飞过 长街短巷 玻璃花园 寻井人 半截铅笔 冬眠计划 海风邮局 木偶的早晨 石榴院 北纬二十九度
    浮光 一碗月亮 旧钟表店 麦田守夜 远行的猫 蓝色窗台 沉默河谷 雪线以上 灯塔笔记 空山听雨
    失约的人 橘子汽水 黑白琴键 暮色渡口 云上的课堂 孤舟记 星星邮差 梧桐信箱 红砖楼 夜班地图
    候鸟旅馆 铁皮风筝 千层浪 小城迷宫 最后一盏 鲸落之后 归途有雨 竹影 荒原列车 露天剧场
    茶馆四季 风的形状 深巷卖花 极光之约 草木心 平行雨季 古镇修书 十二封信 影子裁缝 回声谷
    糖纸年代 断桥往事 向西三百里 晴天备忘 河灯 墨色江湖 微尘 山那边的海 纸鸢人 金色沙丘
    琥珀 时差恋人 望乡台 萤火 老街电台 静水 樱桃园外 折叠时光 破冰者 长明
""")


def review(random_: random.Random) -> tuple[str, str]:
    """A review sentence and its target."""
    label = random_.choice(list(PHRASES))
    phrases = random_.sample(words(PHRASES[label]), k=random_.choice((1, 2)))
    clauses = (random_.choice(OPENINGS), *phrases, random_.choice(CLOSINGS))
    return "，".join(clauses) + "。", json.dumps([label], ensure_ascii=False)


def triple(relation: str, title: str, name: str) -> dict[str, str]:
    return {
        "predicate": relation,
        "object_type": "人物",
        "subject_type": CLAUSES[relation][0],
        "object": name,
        "subject": title,
    }


def credit(random_: random.Random) -> tuple[str, str]:
    """A sentence about who made a work, and its target: one triple, or two with a second clause."""
    relation = random_.choice(list(CLAUSES))
    title = random_.choice(TITLES)
    first, second = random_.sample(NAMES, k=2)
    text = random_.choice(CLAUSES[relation][1]).format(t=title, n=first)
    triples = [triple(relation, title, first)]
    if random_.random() < SECOND_SHARE:
        other, clause = SECOND[relation]
        text += clause.format(n=second)
        triples.append(triple(other, title, second))
    return text + "。", f"```json\n{json.dumps(triples, ensure_ascii=False)}\n```"


def distinct(random_: random.Random, make: Make, number: int) -> dict[str, str]:
    """``number`` different sentences with their targets."""
    sentences: dict[str, str] = {}
    while len(sentences) < number:
        text, target = make(random_)
        sentences[text] = target
    return sentences


def ask(
    random_: random.Random, sentences: dict[str, str], questions: tuple[str, ...], twice: int
) -> list[dict[str, str]]:
    """Rows in random order: the first ``twice`` sentences under two different questions."""
    rows = []
    for place, (text, target) in enumerate(sentences.items()):
        for question in random_.sample(questions, k=2 if place < twice else 1):
            context = f"Instruction: {INSTRUCTION}\nInput: {question}\n\n{text}\nAnswer: "
            rows.append({"context": context, "target": target})
    random_.shuffle(rows)
    return rows


def write(path: Path, rows: list[dict[str, str]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def main(folder: Path) -> None:
    random_ = random.Random(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    reviews, credits = distinct(random_, review, REVIEWS), distinct(random_, credit, CREDITS)
    write(folder / "classification.jsonl", ask(random_, reviews, REVIEW_QUESTIONS, REVIEWS_TWICE))
    write(folder / "triples.jsonl", ask(random_, credits, TRIPLE_QUESTIONS, CREDITS_TWICE))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
