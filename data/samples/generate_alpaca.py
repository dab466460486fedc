"""Writes data/samples/alpaca: made-up instructions whose answers follow from them, from one seed.

    python data/samples/generate_alpaca.py [FOLDER]

instructions.json: an array of ``instruction``, ``input``, ``output`` and, in some rows, ``history``
(``[question, answer]`` pairs). Answers are copied from the instruction, looked up in a short list
that is asked about in several ways, or taken from the history.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def words(text: str) -> list[str]:
    return text.split()


SEED = 53
FOLDER = Path(__file__).parent / "alpaca"

OPPOSITES = [
    tuple(pair.split("/"))
    for pair in words("""
        高/低 长/短 快/慢 冷/热 轻/重 新/旧 早/晚 深/浅 宽/窄 软/硬 黑/白 远/近 多/少 胖/瘦 干/湿
        勤劳/懒惰 勇敢/胆怯 安静/吵闹 光明/黑暗 简单/复杂 大方/小气 前进/后退 成功/失败 清楚/模糊
    """)
]
OPPOSITE_OF = {a: b for x, y in OPPOSITES for a, b in ((x, y), (y, x))}
OPPOSITE_QUESTIONS = (
    "“{w}”的反义词是什么？",
    "请写出“{w}”的反义词。",
    "哪个词和“{w}”意思相反？",
    "给“{w}”找一个反义词。",
)
KINDS = {
    "动物": words("狐狸 松鼠 海豚 骆驼 刺猬 白鹭 蜻蜓 乌龟 斑马 企鹅 壁虎 山羊 鲸鱼 孔雀"),
    "植物": words("银杏 芦苇 牡丹 仙人掌 榕树 薄荷 水稻 葡萄 含羞草 松树 荷花 蒲公英 海棠 竹子"),
    "乐器": words("琵琶 长笛 二胡 钢琴 小号 古筝 吉他 唢呐 竖琴 木鱼 提琴 葫芦丝 手鼓 口琴"),
}
KIND_QUESTIONS = (
    "{w}是动物、植物还是乐器？",
    "判断{w}属于哪一类：动物、植物、乐器。",
    "把{w}归到动物、植物或乐器里。",
    "动物、植物、乐器，{w}算哪一种？",
)
COUNTED = {
    "本": words("书 词典 杂志 相册 日记"),
    "条": words("鱼 河 裤子 围巾 小路"),
    "把": words("雨伞 椅子 剪刀 钥匙 扇子"),
    "辆": words("汽车 自行车 卡车 摩托车 马车"),
    "座": words("桥 山 塔 钟楼 城市"),
    "张": words("纸 桌子 照片 地图 邮票"),
    "棵": words("白菜 柳树 小草 果树 葱"),
}
COUNT_QUESTIONS = (
    "“一（）{w}”里填什么量词？",
    "{w}用哪个量词？",
    "说出{w}的量词。",
    "数{w}的时候用什么量词？",
)
NAMES = words("""
    林晚舟 沈听澜 顾云生 许知夏 陆鸣谦 苏砚秋 程以南 叶疏桐 江照野 温如岚 周牧遥 韩惜墨
    宋临川 方既明 罗半夏 秦望舒 傅清和 白若溪 何守拙 唐映雪 贺兰庭 孟归帆 梁忆柳 谢长宁
""")
PLACES = words("图书馆 菜市场 公园 车站 学校 博物馆 码头 电影院 操场 茶馆 花店 邮局")
SEEN = words("风筝 喷泉 橘猫 画展 灯笼 老友 鸽群 彩虹 集市 木偶戏 雪人 热气球")
DONE = words("散步 排队 等人 写生 拍照 读报 下棋 卖花 修车 唱歌")
DAYS = words("昨天 周末 清晨 傍晚 今天 上周")
ASKED = words("关上窗户 递给我水杯 把灯打开 小声一点 让开一步 收拾桌子 寄走包裹 喂一下猫 带上雨伞")
WHERE = words("楼下 门口 客厅 车里 办公室 走廊 厨房 院子里")
EVENTS = words(
    "春季马拉松 旧书交换 社区合唱 植树活动 摄影比赛 亲子露营 象棋大赛 义务讲解 城市骑行 读书会"
)
ROLES = words("志愿者 选手 领队 裁判 主持人 记录员")


def row(instruction: str, output: str, input: str = "") -> Row:
    return {"instruction": instruction, "input": input, "output": output}


def opposite(random_: random.Random) -> Row:
    word = random_.choice(list(OPPOSITE_OF))
    return row(random_.choice(OPPOSITE_QUESTIONS).format(w=word), f"{OPPOSITE_OF[word]}。")


def kind(random_: random.Random) -> Row:
    name = random_.choice(list(KINDS))
    word = random_.choice(KINDS[name])
    return row(random_.choice(KIND_QUESTIONS).format(w=word), f"{word}是{name}。")


def counted(random_: random.Random) -> Row:
    measure = random_.choice(list(COUNTED))
    word = random_.choice(COUNTED[measure])
    return row(random_.choice(COUNT_QUESTIONS).format(w=word), f"一{measure}{word}。")


def polite(random_: random.Random) -> Row:
    asked = f"{random_.choice(WHERE)}的人，{random_.choice(ASKED)}"
    return row("把下面的话说得客气一些。", f"您好，{asked}，谢谢。", asked)


def sentence(random_: random.Random) -> Row:
    seen, place = random_.choice(SEEN), random_.choice(PLACES)
    return row(f"用“{seen}”和“{place}”造一个句子。", f"我在{place}看见了{seen}。")


def who(random_: random.Random) -> Row:
    name, place, done = (random_.choice(each) for each in (NAMES, PLACES, DONE))
    text = f"{random_.choice(DAYS)}{name}在{place}{done}。"
    return row("找出句子里的人名。", name, text)


def remembered(random_: random.Random) -> Row:
    """The name stands in the history alone, in front of one more exchange or none."""
    name, event, role = (random_.choice(each) for each in (NAMES, EVENTS, ROLES))
    history = [[f"你好，我叫{name}。", f"你好，{name}。"]]
    if random_.random() < 0.5:
        between = opposite(random_)
        history.append([between["instruction"], between["output"]])
    asked = row(f"替我写一句话，报名做{event}的{role}。", f"{name}报名做{event}的{role}。")
    return {**asked, "history": history}


def going_on(random_: random.Random) -> Row:
    """What is asked about a word is what was asked about the one before it."""
    make, known, answer = random_.choice(
        (
            (opposite, list(OPPOSITE_OF), lambda w: f"{OPPOSITE_OF[w]}。"),
            (counted, [w for ws in COUNTED.values() for w in ws], _counted_answer),
        )
    )
    before, word = make(random_), random_.choice(known)
    asked = random_.choice(("那么“{w}”呢？", "换成“{w}”再答一次。", "“{w}”又是什么？"))
    history = [[before["instruction"], before["output"]]]
    return {**row(asked.format(w=word), answer(word)), "history": history}


def _counted_answer(word: str) -> str:
    return next(f"一{measure}{word}。" for measure, known in COUNTED.items() if word in known)


MAKERS: tuple[tuple[Callable[[random.Random], Row], int], ...] = (
    (opposite, 140),
    (kind, 140),
    (counted, 110),
    (polite, 60),
    (sentence, 110),
    (who, 240),
    (remembered, 140),
    (going_on, 140),
)


def main(folder: Path) -> None:
    random_ = random.Random(SEED)
    rows: dict[str, Row] = {}
    for make, count in MAKERS:
        wanted = len(rows) + count
        while len(rows) < wanted:
            made = make(random_)
            rows[json.dumps(made, ensure_ascii=False)] = made
    shuffled = list(rows.values())
    random_.shuffle(shuffled)
    text = json.dumps(shuffled, ensure_ascii=False, indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instructions.json").write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
