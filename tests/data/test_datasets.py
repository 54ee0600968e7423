from collections import defaultdict

import pytest

from jaxsrl.data import datasets
from jaxsrl.data.actions import Splitter, split
from jaxsrl.data.demonstrations import problem_id, split_by_problem
from jaxsrl.data.jsonl import read_rows


def test_a_missing_folder_says_how_to_name_it(tmp_path):
    for folder in (None, "", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"(?s)JAXSRL_DATA.*gsm8k/train.jsonl.gz"):
            datasets.gsm8k(folder)
    with pytest.raises(ValueError, match="part"):
        datasets.gsm8k(tmp_path, part="dev")


def test_gsm8k(data_dir):
    loaded = datasets.gsm8k(data_dir)
    assert loaded.counts == {"rows": 7473, "bad": 0, "too_short": 0, "demonstrations": 7473, "problems": 7473}
    for demonstration in loaded.demonstrations:
        assert demonstration.actions[-1] == f"#### {demonstration.answer}"
        assert "<<" not in "".join(demonstration.actions)
    assert datasets.gsm8k(data_dir, part="test").counts["demonstrations"] == 1119
    thoughts = datasets.gsm8k(data_dir, annotations="thought").demonstrations[0].thoughts
    assert thoughts == ("48/2=24", "48+24=72", "")


def test_numina(data_dir):
    loaded = datasets.numina(data_dir)
    assert loaded.counts == {"rows": 3788, "bad": 0, "too_short": 332, "demonstrations": 3456, "problems": 3226}
    assert all(len(d.actions) >= 2 for d in loaded.demonstrations)
    titled = sum(title is not None for d in loaded.demonstrations for title in d.titles or ())
    assert titled / sum(len(d.actions) for d in loaded.demonstrations) > 0.9
    assert datasets.openthoughts(data_dir).counts["demonstrations"] == 82


def test_numina_cuts_lose_nothing(data_dir):
    splitter = Splitter(style="numbered")
    for _, row in read_rows(datasets.find(data_dir, "numina_amc_aime/train.jsonl.gz")):
        assert split(row["solution"], splitter).text.split() == row["solution"].split()


def test_repeated_problems_stay_on_one_side(data_dir):
    rows = datasets.numina(data_dir).demonstrations
    spelled = defaultdict(set)
    for d in rows:
        spelled[" ".join(d.problem.split())].add(d.actions)
    assert sum(len(solutions) > 1 for solutions in spelled.values()) > 200  # there is something to get wrong
    for held_out in (60, 0.1):
        kept, away = split_by_problem(rows, held_out=held_out, seed=3)
        assert kept and away and not {problem_id(d.problem) for d in kept} & {d.problem_id for d in away}
    by_row = [{d.problem_id for d in rows[0::2]}, {d.problem_id for d in rows[1::2]}]
    assert by_row[0] & by_row[1]  # a split by row does put problems on both sides
