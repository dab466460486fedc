"""Writes data/samples/toutiao: made-up headlines in the published layout, from one seed.

    python data/samples/generate_toutiao.py [FOLDER]

headlines.txt: ``id_!_code_!_name_!_title_!_keywords``. What a headline speaks of and what happens
there both come from its category's own list, so either says the category. The name of the category
never stands in it. Nearly half of the rows have no keywords, as in real files; the others name what
the headline speaks of and where.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path


def words(text: str) -> list[str]:
    return text.split()


SEED = 41
FOLDER = Path(__file__).parent / "toutiao"
NO_KEYWORDS = 0.45

# Code → name, rows, what headlines speak of, what happens. Uneven, as real ones are.
CATEGORIES = {
    "100": (
        "news_story",
        52,
        "外婆的木箱 井边的少年 雨夜敲门人 渡船老汉 狐狸和灯 会说话的石磨 卖糖人的哑巴 迷路的新娘",
        "讲完全村人都沉默了 听到结尾才明白 藏着一段往事 让人一夜没睡 "
        "原来等了三十年 结局没人猜到 小时候听过十遍",
    ),
    "101": (
        "news_culture",
        70,
        "汝窑青瓷 昆曲折子戏 敦煌壁画 皮影戏班 宋代山水 "
        "碑帖拓片 竹刻笔筒 古琴曲谱 苏绣屏风 活字印刷",
        "首次对外展出 传人只剩三位 修复用了七年 走进大学课堂 "
        "在博物馆亮相 被收进非遗名录 藏家争相竞拍 出了线装图册",
    ),
    "102": (
        "news_entertainment",
        78,
        "林夏 周弈 女团星糖 古装剧长风令 综艺夜航船 影后程曼 歌手阿岩 喜剧人老段 导演贺川 新人苏禾",
        "官宣定档 红毯造型被热议 新歌上线即登顶 粉丝接机挤满大厅 "
        "收视率破二 回应绯闻 杀青照曝光 演唱会加场",
    ),
    "103": (
        "news_sports",
        78,
        "江城队 前锋马可 国乒小将 女排主攻手 北岸篮球 门将秦岳 短跑名将 青年队 羽坛老将 滨海马拉松",
        "绝杀对手晋级 伤愈复出首发 逆转拿下三分 主场不敌客队 "
        "打破赛会纪录 加时赛险胜 无缘四强 宣布退役",
    ),
    "104": (
        "news_finance",
        74,
        "央行 消费贷款 人民币汇率 公募基金 小微企业 黄金价格 银行理财 年金保险 跨境支付 地方债",
        "利率再次下调 额度收紧 年化收益跌破三厘 规模突破万亿 "
        "迎来新规 手续费减半 风险提示发布 连续五周走强",
    ),
    "106": (
        "news_house",
        66,
        "学区房 公积金 二手房 长租公寓 南城楼盘 老旧小区 精装新房 别墅区 共有产权房 写字楼",
        "挂牌量大增 首付比例调整 开盘半天售罄 业主集体降价 "
        "加装电梯启动 租金连涨三月 交房延期引争议 限购松绑",
    ),
    "107": (
        "news_car",
        78,
        "纯电轿车 国产皮卡 七座商务车 混动越野 小型旅行车 "
        "新款跑车 新能源货车 城市微型车 老款两厢 硬派四驱",
        "百公里油耗实测 续航跑出六百公里 变速箱异响召回 上市即优惠两万 "
        "试驾底盘调校 碰撞测试五星 提车等三个月 轮胎怎么选",
    ),
    "108": (
        "news_edu",
        74,
        "高考志愿 小学数学 研究生复试 幼儿园招生 英语四级 "
        "高三班主任 乡村教师 中职院校 期末试卷 课后延时班",
        "分数线公布 报名今起开始 家长作业引热议 压轴题解法 "
        "扩招三成 录取通知书寄出 阅卷标准调整 如何背单词",
    ),
    "109": (
        "news_tech",
        78,
        "折叠手机 国产芯片 家用机器人 智能手表 大模型助手 "
        "五纳米工艺 无线耳机 云服务商 开源系统 量子计算机",
        "发布会定在月底 跑分曝光 系统更新推送 算力翻倍 "
        "专利被驳回 续航与快充实测 停止维护 用户数据泄露",
    ),
    "110": (
        "news_military",
        70,
        "新型护卫舰 隐身战机 装甲旅 预警机 两栖登陆舰 特战小队 远程火箭炮 核潜艇 边防连 无人侦察机",
        "完成海上实弹射击 首次公开亮相 夜间突防演练 列装部队 "
        "跨昼夜对抗 护航编队启程 雷达被曝升级 高原驻训",
    ),
    "112": (
        "news_travel",
        74,
        "雪山徒步 海岛民宿 古镇水街 草原自驾 沙漠露营 温泉山庄 梯田日出 环湖骑行 峡谷栈道 渔村小住",
        "三天两晚攻略 门票半价 人均花费八百 避开人潮的路线 "
        "最佳季节是九月 行李清单 新开直达高铁 拍照机位分享",
    ),
    "113": (
        "news_world",
        70,
        "北欧三国 该国总统 联合国特使 边境难民 南美大选 "
        "外长会谈 议会上院 驻外大使 海峡航道 停火协议",
        "投票推迟一周 发表联合声明 遭到制裁 谈判破裂 "
        "街头爆发抗议 撤离侨民 宣布紧急状态 民调出现反转",
    ),
    "114": (
        "stock",
        40,
        "沪指 创业板 白酒板块 龙头股 北向资金 次新股 券商板块 ST公司",
        "尾盘跳水 三连涨停 放量突破年线 跌停打开 主力净流出 明天会反弹吗",
    ),
    "115": (
        "news_agriculture",
        70,
        "早稻 生猪存栏 大棚草莓 苹果产区 土鸡养殖 玉米收储 蜂农 合作社 小龙虾塘 茶园",
        "亩产创新高 防虫要趁早 每斤收购价上涨 补贴发到账 "
        "施肥用量有讲究 抢收赶在雨前 育苗基地扩建 滞销怎么办",
    ),
    "116": (
        "news_game",
        70,
        "王牌射手 新英雄 战队青锋 五人开黑 像素农场 老玩家 限定皮肤 竞技排位 手游副本 国服法师",
        "技能加强 赛季更新公告 上分套路 爆率实测 "
        "决赛三比一夺冠 氪金多少才够 装备怎么搭配 外挂账号被封",
    ),
}
OPENINGS = ("", "", "", "刚刚，", "注意！", "最新：", "今早", "网友：", "关注丨", "官方通报：")
PLACES = words("江城 北岸 南岭 云州 青湾 白鹿 沙溪 临海 东川 石桥")
TAILS = ("", "", "", "，你怎么看？", "，网友炸锅", "，原因找到了", "！", "，速看")


def headlines(random_: random.Random) -> list[tuple[str, str, str, str]]:
    """Code, name, title and keywords of every row; no category says one thing twice."""
    rows = []
    for code, (name, count, subjects, events) in CATEGORIES.items():
        pairs = [(subject, event) for subject in words(subjects) for event in words(events)]
        for subject, event in random_.sample(pairs, k=count):
            place = random_.choice(PLACES)
            title = random_.choice(OPENINGS) + place + subject + event + random_.choice(TAILS)
            bare = random_.random() < NO_KEYWORDS
            rows.append((code, name, title, "" if bare else f"{subject},{place}"))
    random_.shuffle(rows)
    return rows


def main(folder: Path) -> None:
    random_ = random.Random(SEED)
    rows = headlines(random_)
    ids = random_.sample(range(6_400_000_000_000_000_000, 6_560_000_000_000_000_000), k=len(rows))
    lines = [f"{'_!_'.join((str(name), *row))}\n" for name, row in zip(ids, rows, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "headlines.txt").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
