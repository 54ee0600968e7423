"""Chains: what they append, when they end, what is measured."""

from dataclasses import replace

import pytest

from jaxsrl.data.chat import Template
from jaxsrl.evals.chains import Rules, take_action

from .conftest import DEMONSTRATIONS, expert_of, finished, first_line, perfect, sums

ACTIONS = [len(d.actions) for d in DEMONSTRATIONS]


def chained(run, policy, demonstrations=DEMONSTRATIONS, **settings):
    metrics, records = run(policy, demonstrations, modes=("chained",), **settings)
    return {name.removeprefix("chained/"): value for name, value in metrics.items()}, records


def test_the_expert_scores_1(run):
    metrics, records = chained(run, perfect)
    assert metrics["answer"] == metrics["whole"] == metrics["leading_share"] == metrics["thinks"] == 1
    for none in ("no_answer", "unfinished", "capped", "outgrown", "malformed", "ran_on", "truncated"):
        assert metrics[none] == 0
    assert metrics["actions_mean"] == metrics["leading_mean"] == sum(ACTIONS) / 5
    assert metrics["count"] == metrics["problems"] == 5 and len(records) == sum(ACTIONS)
    written = sum(len(a) + len("a thought") + 3 for d in DEMONSTRATIONS for a in d.actions)
    assert metrics["tokens_mean"] == pytest.approx(written / 5)
    assert metrics["completion_tokens_mean"] == pytest.approx(written / sum(ACTIONS))


def test_the_prompt_holds_own_actions_without_thoughts_in_step_form(run):
    prompts = []

    def watched(prompt, *noise):
        prompts.append(prompt)
        return perfect(prompt, *noise)

    chained(run, watched, DEMONSTRATIONS[1:2])
    assert prompts == [
        "<|action|>sum:\n4 5 6\n",
        "<|action|>sum:\n4 5 6\n4 + 5 = 9\n",
        "<|action|>sum:\n4 5 6\n4 + 5 = 9\n9 + 6 = 15\n",
    ]


def test_a_wrong_action_is_built_on(run):
    def slips(prompt, *noise):
        """Adds one too many in its first action and goes on correctly from there."""
        demonstration, given = expert_of(prompt)
        numbers = [int(n) for n in demonstration.problem.split("\n")[1].split()]
        lines = prompt.strip().splitlines()
        total = int(lines[-1].split("= ")[1]) if given else numbers[0]
        if given == len(numbers) - 1:
            return f"answer: {total}"
        return f"{total} + {numbers[given + 1]} = {total + numbers[given + 1] + (given == 1)}"

    metrics, records = chained(run, slips, DEMONSTRATIONS[2:3])
    assert [r["action"] for r in records] == ["7 + 8 = 15", "15 + 9 = 25", "25 + 10 = 35", "answer: 35"]
    assert metrics["answer"] == metrics["whole"] == 0
    assert metrics["leading_mean"] == 1 and metrics["leading_share"] == 0.25
    assert [r["correct"] for r in records] == [None, None, None, False]
    assert [r["end"] for r in records] == [None, None, None, "finished"]
    # Of one problem a share has Wilson's interval, and a mean none.
    assert "answer_low" in metrics and "leading_mean_low" not in metrics


def test_leading_actions_end_at_the_first_that_differs(run):
    def recovers(prompt, *noise):
        return "oops" if expert_of(prompt)[1] == 0 else perfect(prompt, *noise)

    metrics, _ = chained(run, recovers)
    assert metrics["answer"] == 1 and metrics["whole"] == metrics["leading_mean"] == metrics["leading_share"] == 0


def test_a_chain_that_never_finishes_is_capped_and_has_no_answer(run):
    metrics, records = chained(run, lambda *_: "3", DEMONSTRATIONS[:1])  # 3 is the answer; it was never given as one
    assert metrics["capped"] == metrics["unfinished"] == metrics["no_answer"] == 1 and metrics["answer"] == 0
    assert metrics["actions_mean"] == len(records) == len(DEMONSTRATIONS[0].actions) + 2
    assert chained(run, lambda *_: "3", DEMONSTRATIONS[:1], action_cap=7)[0]["actions_mean"] == 7


def test_a_malformed_completion_ends_its_chain_only(run):
    def odd(prompt, *noise):
        demonstration, given = expert_of(prompt)
        return "<think>" if demonstration.problem_id == "c" and given == 1 else perfect(prompt, *noise)

    metrics, records = chained(run, odd)
    links = sum(ACTIONS) - 2
    assert len(records) == links and metrics["malformed"] == pytest.approx(1 / links)
    assert metrics["answer"] == 0.8 and metrics["unfinished"] == 0.2 and metrics["capped"] == 0
    assert [r["end"] for r in records if r["problem"] == "c"] == [None, "malformed"]


def test_a_completion_that_runs_on_is_cut_to_its_first_action(run):
    def all_at_once(prompt, *_):
        demonstration, given = expert_of(prompt)
        return "\n".join(demonstration.actions[given:][:2])

    metrics, _ = chained(run, all_at_once)
    assert metrics["answer"] == metrics["whole"] == 1
    assert metrics["ran_on"] == pytest.approx((sum(ACTIONS) - 5) / sum(ACTIONS))


@pytest.mark.parametrize(
    ("text", "truncated", "action"),
    [
        ("<think>t</think>a", False, "a"),
        ("a", False, "a"),
        ("a", True, None),  # may lack its end
        ("a\nb", True, "a"),  # the first action is whole
        ("<think>t</think>a\n<think>u</think>b", False, "a"),
        ("<think>t</think>a\n<think>u", True, "a"),
        ("a\n<think>u</think>b", False, "a"),
        ("<think>t", True, None),
        ("<think>t</think>", False, None),
        ("<think>t<think>u</think>a", False, None),
        ("</think>a", False, None),
        ("", False, None),
    ],
)
def test_take_action(text, truncated, action):
    assert take_action(text, truncated, Rules(finished=finished, first_action=first_line))[0] == action


def test_an_action_that_first_action_empties_is_malformed():
    assert take_action("a", False, Rules(finished=finished, first_action=lambda text: "")) == (None, True)


def test_a_chain_that_outgrows_its_prompt_row_ends(run):
    rows = {"rows": 1, "row_tokens": 40, "slots": 2}
    metrics, records = chained(run, lambda *_: "x" * 12, DEMONSTRATIONS[:1], rows=rows, action_cap=9)
    assert metrics["outgrown"] == metrics["unfinished"] == 1 and len(records) == 3  # prompts of 10, 23 and 36 tokens
    with pytest.raises(ValueError, match="does not fit"):  # the problem itself does not fit: settings, not policy
        chained(run, perfect, [sums(*range(100, 140), name="long")], rows=rows)


def test_chains_of_a_problem_differ_by_their_sample_number(run):
    def policy(prompt, temperature, sample, noise):
        return perfect(prompt, 0, 0, 0) if sample == 0 else "answer: 0"

    metrics, records = chained(run, policy, samples=4, temperature=1.0)
    assert metrics["answer"] == 1 and metrics["avg@4"] == 0.25 and metrics["pass@4"] == 1 and metrics["pass^4"] == 0
    assert metrics["pass@2"] == pytest.approx(0.5) and metrics["maj@4"] == 0
    assert metrics["sampled_actions_mean"] == pytest.approx((sum(ACTIONS) / 5 + 3) / 4)


def test_noise_is_drawn_anew_for_every_chain_and_later_chains_change_no_earlier_one(run):
    def lucky(prompt, temperature, sample, noise):
        return perfect(prompt, 0, 0, 0) if noise < 0.7 else "answer: 0"

    def taken(samples):
        _, records = chained(run, lucky, samples=samples, temperature=1.0)
        return [r for r in records if r["decoding"] == "sampled" and r["sample"] < 3]

    few, many = taken(3), taken(8)
    assert few == many
    ends = {(r["problem"], r["sample"]): r["correct"] for r in many if r["end"]}
    assert len({tuple(ends[p, s] for p in "abcde") for s in range(3)}) > 1


def test_a_title_hint_is_not_shown_for_own_actions(run):
    titled = replace(DEMONSTRATIONS[1], titles=("Secret",) * 3)
    prompts = []
    chained(run, lambda prompt, *noise: prompts.append(prompt) or perfect(prompt, *noise), [titled],
            template=Template(title_hint=True))  # fmt: skip
    assert prompts and not any("Secret" in prompt for prompt in prompts)
