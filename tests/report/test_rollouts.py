import json
import re
from html.parser import HTMLParser

from jaxsrl.report.cards import MOST_OF_GROUP, MOST_ROLLOUTS, PROBLEMS, STEPS, choose
from jaxsrl.report.read import read_run
from jaxsrl.report.rollouts import rollouts


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_steps_are_spread_with_a_kept_and_a_dropped_group(make_run):
    cards = choose(read_run(make_run(steps=29)), []).cards
    for stage in ("srl", "rlvr"):
        steps = sorted({c.step for c in cards if c.stage == stage})
        assert len(steps) == STEPS and steps[0] == 1 and steps[-1] == 29
    first = [c for c in cards if (c.stage, c.step) == ("srl", 1)]
    assert [c.rows[0]["kept"] for c in first] == [True, False, True]
    assert all(c.size == 8 and len(c.rows) == MOST_OF_GROUP for c in cards)
    for card in cards:
        assert card.scores == sorted(card.scores, reverse=True) and card.scores[-1] == -1.0


def test_the_first_dropped_group_is_shown_however_many_there_are(make_run, sampled):
    """The control: of 400 groups a dozen is shown, and one alone was dropped."""
    folder = make_run(stages=("srl",), steps=1)
    rows = sampled("srl", 1, 400)
    write(folder / "rollouts/srl.jsonl", [row | {"kept": row["group"] != 217} for row in rows])
    chosen = choose(read_run(folder), [])
    assert [c.rows[0]["group"] for c in chosen.cards if not c.rows[0]["kept"]] == [217]
    assert len(chosen.cards) <= 13 and chosen.sampled == 3200


def test_the_page_stays_short_however_many_stages(make_run, sampled):
    folder = make_run(stages=("srl",), steps=3)
    for i in range(30):
        write(folder / f"rollouts/s{i}.jsonl", [row for s in (1, 2, 3) for row in sampled(f"s{i}", s, 8)])
    chosen = choose(read_run(folder), [])
    assert 0 < chosen.shown(training=True) <= 2 * MOST_ROLLOUTS < chosen.sampled
    assert "rollouts of training; the rest is in the run" in rollouts(read_run(folder), [])


def evaluated(problem, branch, **more):
    return {"stage": "sft", "step": 0, "split": "test", "mode": "actions", "decoding": "greedy", "problem": problem,
            "demonstration": f"{problem:0>4}", "branch": branch, "sample": 0, "completion": f"say {problem}",
            "tokens": 3, "truncated": False, "action": "say", "expert_action": f"do {branch}", "similarity": 0.25,
            "correct": False} | more  # fmt: skip


def test_a_stage_that_samples_nothing_shows_what_it_wrote_in_evaluations(make_run):
    folder = make_run(stages=("sft",), steps=1)
    rows = [evaluated(f"{p:x}", k, step=s) for s in (0, 5, 9) for p in range(10) for k in (1, 0)]
    rows += [evaluated("0", 0, mode="forced_actions"), evaluated("0", 0, decoding="sampled", sample=3)]
    write(folder / "evals/sft.jsonl", rows[:20])
    write(folder / "evals/sft.1.jsonl", rows[20:])  # of another process
    texts = [{"demonstration": f"{p:0>4x}", "problem": f"{p:x}", "text": f"What is <{p}>?", "actions": ["a<b", "c"]}
             for p in range(10)]  # fmt: skip
    write(folder / "problems/sft.jsonl", texts)
    chosen = choose(read_run(folder), [])
    assert len(chosen.cards) == 3 * PROBLEMS and chosen.evaluated == 62
    assert {c.problem for c in chosen.cards if c.step == 0} == {c.problem for c in chosen.cards if c.step == 9}
    assert all([r["branch"] for r in c.rows] == [0, 1] and c.mode == "actions" for c in chosen.cards)
    page = rollouts(read_run(folder), [])
    assert "What is &lt;0&gt;?" in page and "a&lt;b" in page and "after 1 expert action " in page
    assert "24 of 62 completions of evaluations" in page and "0 of 2 right" in page


def test_problem_and_actions_given_are_shown(make_run, sampled):
    """Of the actions those before the branch point alone: the expert's next one is what the completion was to find."""
    folder = make_run(stages=("srl",), steps=1)
    rows = [row | {"branch": 2, "demonstration": "00ff"} for row in sampled("srl", 1, 1)]
    write(folder / "rollouts/srl.jsonl", rows)
    texts = {"demonstration": "00ff", "text": "What is 47 + 35?", "actions": ["FIRST", "SECOND", "THIRD", "FOURTH"]}
    write(folder / "problems/srl.jsonl", [{"demonstration": "00fe", "text": "ANOTHER", "actions": []}, texts])
    page = rollouts(read_run(folder), [])
    assert "What is 47 + 35?" in page and "FIRST" in page and "SECOND" in page
    assert "THIRD" not in page and "ANOTHER" not in page and "after 2 actions" in page
    agent = texts | {"observations": ["FILES <1>", "", "UNSEEN", ""]}
    write(folder / "problems/srl.jsonl", [agent])
    page = rollouts(read_run(folder), [])
    assert 'class="observation" dir="auto">FILES &lt;1&gt;' in page and page.count('class="observation"') == 1
    write(folder / "problems/srl.jsonl", [])
    assert "text of this problem is not in the run" in rollouts(read_run(folder), [])


class Cards(HTMLParser):
    """The data that the browser filters by, and rewards of the rows below."""

    def __init__(self, page):
        super().__init__()
        self.cards = []
        self.feed(page)

    def handle_starttag(self, name, attributes):
        said = dict(attributes)
        if name == "details":
            self.cards.append((said, []))
        elif name == "tr" and "data-reward" in said:
            self.cards[-1][1].append(float(said["data-reward"]))


def test_cards_say_what_the_browser_filters_by(make_run):
    page = rollouts(read_run(make_run(stages=("srl",), steps=2)), [])
    cards = Cards(page).cards
    assert {said["data-step"] for said, _ in cards} == {"1", "2"}
    assert {said["data-problem"] for said, _ in cards} == {f"train-{s}-{g}" for s in (1, 2) for g in range(3)}
    for said, rewards in cards:
        assert said["data-place"] == "srl, training" and len(rewards) == 8
        assert (float(said["data-top"]), float(said["data-bottom"])) == (max(rewards), min(rewards))
    assert [("open" in said) for said, _ in cards] == [True] + [False] * 5
    assert re.search(r'<form [^>]*id="browser" hidden>', page)  # a script shows it; without one all cards are there


def test_broken_rows_are_counted_and_odd_ones_shown(make_run):
    folder = make_run(stages=("srl",), steps=1)
    odd = {"stage": "srl", "step": 1, "completion": "x", "reward": None, "advantage": "?", "tokens": None, "group": [1]}
    path = folder / "rollouts/srl.jsonl"
    path.write_text(json.dumps(odd) + "\nnot json\n" + '{"step": 1}\n' + '{"step": 1, "completion": "cut')
    complaints: list[str] = []
    page = rollouts(read_run(folder), complaints)
    assert complaints == ["2 lines of rollouts/srl.jsonl could not be read and were left out"]
    assert page.count("<details") == 1 and "malformed" in page


def test_no_completions_is_said(make_run):
    assert "No completions" in rollouts(read_run(make_run(stages=("sft",), steps=1)), [])
