"""Writes data/samples/paper: made-up papers, medical and other ones, from one seed.

    python data/samples/generate_paper.py [FOLDER]

papers.csv: ``uuid,title,author,abstract,Keywords,label``, in English as the published papers are.
The label is 1 for a medical paper; the words of its title say it, and so do those of its abstract.
Every keyword occurs in the abstract. Fields with commas are quoted.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path


def listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


SEED = 47
FOLDER = Path(__file__).parent / "paper"
ROWS = 600

TREATMENTS = listed("""
    oral iron, early physiotherapy, low-dose aspirin, inhaled steroids, insulin pumps,
    statin therapy, vitamin D, home dialysis, nasal vaccine, antibiotic prophylaxis
""")
CONDITIONS = listed("""
    anemia, asthma, hip fracture, stroke, type 2 diabetes, heart failure, kidney disease,
    pneumonia, migraine, breast cancer, hepatitis, sepsis
""")
PATIENTS = listed("""
    older adults, pregnant women, school children, intensive care patients, rural outpatients,
    newborn infants
""")
OUTCOMES = listed("hospital stay, mortality, pain score, blood pressure, relapse rate, survival")
METHODS = listed("""
    graph search, linear programming, panel regression, finite elements, random forests,
    field interviews, laser scanning, stochastic simulation, archival analysis, kriging
""")
OBJECTS = listed("""
    urban traffic, rice prices, bridge decks, river sediment, solar panels, tourist flows,
    steel welds, supply chains, wind farms, primary schools, soil moisture, cloud servers
""")
PLACES = listed("""
    coastal cities, mountain villages, northern provinces, industrial parks, border regions,
    river deltas
""")
MEASURES = listed("energy demand, travel time, cost, yield, noise, emissions")
NAMES = listed("""
    Lin Wanzhou, Shen Tinglan, Gu Yunsheng, Anna Berg, Jonas Feld, Marta Quill, Su Yanqiu,
    Peter Holm, Ye Shutong, Clara Voss, Jiang Zhaoye, Omar Nadir
""")
MEDICAL_TITLES = (
    "{a} for {b} in {c}",
    "Effect of {a} on {b} among {c}",
    "{a} and {b}: a trial with {c}",
)
OTHER_TITLES = (
    "{a} of {b} in {c}",
    "A study of {b} in {c} with {a}",
    "{a} and {b}: evidence from {c}",
)


def paper(random_: random.Random) -> tuple[str, str, list[str], str]:
    """Title, abstract, keywords and label of one paper."""
    medical = random_.random() < 0.5
    lists = (TREATMENTS, CONDITIONS, PATIENTS, OUTCOMES)
    a, b, c, d = map(random_.choice, lists if medical else (METHODS, OBJECTS, PLACES, MEASURES))
    title = random_.choice(MEDICAL_TITLES if medical else OTHER_TITLES).format(a=a, b=b, c=c)
    count, percent = random_.randint(40, 960), random_.randint(3, 48)
    if medical:
        abstract = (
            f"We gave {a} to {count} {c} with {b}. "
            f"Compared with usual care, {d} changed by {percent} percent, with few side effects."
        )
    else:
        abstract = (
            f"We apply {a} to {b} at {count} sites in {c}. "
            f"The results show that {d} falls by {percent} percent, at no loss of quality."
        )
    return title[0].upper() + title[1:], abstract, [a, b, d], str(int(medical))


def authors(random_: random.Random) -> str:
    names = random_.sample(NAMES, k=random_.choice((1, 2)))
    return "; ".join(", ".join(name.split()[::-1]) for name in names)


def main(folder: Path) -> None:
    random_ = random.Random(SEED)
    rows: dict[str, tuple[str, ...]] = {}
    while len(rows) < ROWS:
        title, abstract, keywords, label = paper(random_)
        written_by = authors(random_)
        rows.setdefault(title, (title, written_by, abstract, "; ".join(keywords), label))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "papers.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("uuid", "title", "author", "abstract", "Keywords", "label"))
        table.writerows((number, *row) for number, row in enumerate(rows.values()))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
