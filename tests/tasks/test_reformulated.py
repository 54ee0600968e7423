"""Critiques say what is wrong, and backward problems have the answers they hide."""

import pytest

from jaxsrl.tasks.arithmetic import LONG, SHORT, apply, generate, solve, verify
from jaxsrl.tasks.backward import backward, solve_backward, undo
from jaxsrl.tasks.critique import MARK, critique

PROBLEMS = generate(LONG, 40)


def test_critiques_judge_every_line():
    verdicts = []
    for seed in range(3):
        for demonstration in PROBLEMS:
            made = critique(demonstration, seed)
            assert made == critique(demonstration, seed) and made.problem_id == demonstration.problem_id
            problem, proposed = made.problem.split(f"\n{MARK}\n")
            assert problem == demonstration.problem
            verdict = verify(demonstration, proposed.split("\n"))
            for line, right, expert in zip(made.actions, verdict.actions, demonstration.actions, strict=False):
                assert line == f"{expert[0]} ok" if right else line == f"{expert[0]} no {expert}"
            assert made.actions[-1] == made.answer == ("right" if verdict.chain else "wrong")
            assert len(made.actions) == len(demonstration.actions) + 1
            verdicts.append(verdict.chain)
    assert 0.35 < sum(verdicts) / len(verdicts) < 0.65
    assert all(critique(d, 0, wrong_share=0.0).answer == "right" for d in PROBLEMS)
    assert all(critique(d, 0, wrong_share=1.0).answer == "wrong" for d in PROBLEMS)


def test_the_way_back_is_the_way_forward():
    for operation in "ABCMNOUVWXYZDEFPQR":
        assert undo(operation, apply(operation, "0123456789")) == "0123456789"
    for demonstration in PROBLEMS:
        start, *settings = backward(demonstration)
        actions, _ = solve(demonstration.problem)
        assert start.actions == (*actions[-2::-1], demonstration.problem.split("\n")[1])
        assert solve_backward(start.problem) == start.actions and start.answer == start.actions[-1]
        for item in settings:  # filling in the hidden setting leads to the end, and no other does
            header, begin, end = item.problem.split("\n")
            leads = [x for x in "ABCMNODEFPQR" if _ends(header.replace("?", x), begin) == end]
            assert leads.count(item.answer) == 1 and demonstration.problem.split("\n")[0].endswith(
                header.split(":")[1].replace("?", item.answer)
            )
        assert {item.problem_id for item in (start, *settings)} == {demonstration.problem_id}


def _ends(header, begin):
    return solve(f"{header}\n{begin}")[0][-1]


def test_a_short_problem_may_not_determine_its_settings():
    counts = {len(backward(d)) for d in generate(SHORT, 200)}
    assert max(counts) == 3 and min(counts) >= 1
    with pytest.raises(ValueError, match="not a backward problem"):
        solve_backward(PROBLEMS[0].problem)
