"""Several runs on one page: self-contained, every run with its line, hostile names as text."""

import re

from jaxsrl.report.compare import MOST_RUNS, write_comparison
from jaxsrl.report.read import read_run
from tests.report.test_page import Balanced, read

COLUMNS, ROWS = ("tokens (k)", "actions/exact"), [["sft", "3 ± 0", "0.3 ± 1.3"], ["<b>srl", "4 ± 0", "–"]]


def test_runs_are_laid_over_each_other_beside_their_table(make_run, tmp_path):
    runs = [make_run(steps=6, every=3) for _ in range(3)]
    page = read(write_comparison(tmp_path / "compare.html", runs, COLUMNS, ROWS, "3 runs, test split"))
    parsed = Balanced(page)
    assert not {name for name, _ in parsed.seen} & {"link", "img", "iframe", "object", "base"}
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)|fetch\(", page)
    drawn = [a["data-name"] for name, a in parsed.seen if name == "path" and a.get("class") == "line"]
    assert {drawn.count(run.name) for run in runs} == {len(drawn) // 3} and len(drawn) >= 3 * 10
    assert "0.3 ± 1.3" in page and "&lt;b&gt;srl" in page and "actions/exact, validation" in page
    assert "loss</b>" in page and page.count("<h3>") == 3  # a row of panels per stage: losses share no scale
    assert read(write_comparison(tmp_path / "compare.html", runs, COLUMNS, ROWS, "3 runs, test split")) == page


def test_folders_of_one_name_are_told_apart(make_run, tmp_path):
    runs = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        runs.append(make_run(stages=("srl",), steps=2).rename(tmp_path / place / "srl"))
    page = read(write_comparison(tmp_path / "compare.html", runs, COLUMNS, ROWS, ""))
    assert ">a/srl<" in page and ">b/srl<" in page
    assert read_run(runs[0]).name == "srl_arithmetic"  # what the config calls both


def test_too_many_lines_are_left_out_and_counted(make_run, tmp_path):
    run = make_run(stages=("srl",), steps=2)
    page = read(write_comparison(tmp_path / "compare.html", [run] * (MOST_RUNS + 2), COLUMNS, ROWS, ""))
    assert "2 more runs are in the table and not drawn" in page
    assert "more runs" not in read(write_comparison(tmp_path / "compare.html", [run] * 2, COLUMNS, ROWS, ""))
