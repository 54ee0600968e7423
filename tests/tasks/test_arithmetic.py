import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsrl.tasks.arithmetic import (
    LONG,
    PRESETS,
    SHORT,
    SPLITS,
    WIRING,
    Arithmetic,
    apply,
    corrupt,
    generate,
    solve,
    split_of,
    verify,
    verify_answer,
)

# Written out by hand, digit by digit, so that the expert is not compared with its own formula.
TABLE = {
    "+1": "1234567890", "+2": "2345678901", "+3": "3456789012",
    "*3": "0369258147", "*7": "0741852963", "*9": "0987654321",
}  # fmt: skip
MEANING = dict(zip("ABCMNOUVWXYZDEFPQR", list(TABLE) * 3, strict=True))


def slowly(problem: str) -> list[str]:
    """The actions of a problem, by table look-up."""
    header, start = problem.split("\n")
    digits, out = [int(c) for c in start[2:]], []
    for code in range(ord(start[0]), ord(header[0])):
        for operation in (header[2], WIRING[code - ord("a")], header[3]):
            digits = [int(TABLE[MEANING[operation]][d]) for d in digits]
        out.append(chr(code + 1) + "=" + "".join(map(str, digits)))
    return out


@pytest.mark.parametrize("name", PRESETS)
def test_the_expert_agrees_with_table_look_up(name):
    for demonstration in generate(PRESETS[name], 1000, "test"):
        expected = slowly(demonstration.problem)
        assert list(demonstration.actions) == expected
        assert demonstration.answer == expected[-1][2:]
        assert verify(demonstration, expected).chain and verify_answer("\n".join(expected), demonstration)


@pytest.mark.parametrize("operation", MEANING)
def test_an_operation_acts_on_every_digit_alone(operation):
    assert apply(operation, "0123456789") == TABLE[MEANING[operation]]


def test_unknown_operations_and_other_texts_are_refused():
    with pytest.raises(ValueError, match="unknown operation 'G'"):
        apply("G", "12345")
    for text in ("", "what is 1+1?", "g:BP", "g:B\nd=12345", "g:BG\nd=12345", "c:BP\nd=12345", "G:BP\nd=12345"):
        with pytest.raises(ValueError, match="not an arithmetic problem"):
            solve(text)


def test_a_thought_shows_the_private_digits_and_ends_with_the_action():
    for demonstration in generate(SHORT, 500):
        state = demonstration.problem[-5:]
        for thought, action in zip(demonstration.thoughts, demonstration.actions, strict=True):
            assert len(thought) == 18
            for at in (0, 6, 12):
                state = apply(thought[at], state)
                assert thought[at + 1 : at + 6] == state
            assert action[2:] == state


def test_long_demonstrations_hide_thoughts_and_change_nothing_else():
    shown, hidden = (generate(replace(LONG, thoughts=on), 50) for on in (True, False))
    assert all(d.thoughts is None for d in hidden)
    assert [replace(d, thoughts=None) for d in shown] == hidden and all(len(d.thoughts) == 8 for d in shown)


def test_presets_have_the_lengths_and_mixes_they_name():
    counts = {name: {len(d.actions) for d in generate(preset, 200)} for name, preset in PRESETS.items()}
    assert counts == {"short": {1, 2}, "long": {8}, "ood_length": {12}, "ood_ops": {8}}
    for name, preset in PRESETS.items():
        letters = "".join(d.problem[2:4] for d in generate(preset, 2000))
        share = sum(MEANING[c][0] == "*" for c in letters) / len(letters)
        assert share == pytest.approx(preset.multiply, abs=0.03), name


def test_golden_problems():
    first = [generate(LONG, 1, split)[0] for split in SPLITS]
    assert [d.problem for d in first] == ["p:ME\nh=04084", "z:BF\nr=00400", "t:BR\nl=96456"]
    assert first[0].actions == (
        "i=20280", "j=15195", "k=79719", "l=40460", "m=82862", "n=91931", "o=06026", "p=42402",
    )  # fmt: skip
    assert first[0].problem_id == "arithmetic/3a9a1965cd290f29"
    seventh = generate(SHORT, 1, first=7)[0]
    assert (seventh.problem, seventh.thoughts) == ("d:BD\nb=64951", ("B86173X48319D59420", "B71642U82753D93864"))


def test_a_demonstration_depends_on_settings_split_and_index_alone():
    many = generate(LONG, 20, "validation")
    assert many[5:9] == generate(LONG, 4, "validation", first=5)
    assert many != generate(replace(LONG, seed=1), 20, "validation")


def test_splits_share_no_problem_across_seeds_and_settings():
    seen = {split: set() for split in SPLITS}
    for split in SPLITS:
        for preset in (SHORT, LONG):
            for seed in (0, 1):
                seen[split] |= {d.problem for d in generate(replace(preset, seed=seed), 500, split)}
        assert {split_of(problem) for problem in seen[split]} == {split}
    assert not (seen["train"] & seen["validation"] or seen["train"] & seen["test"] or seen["validation"] & seen["test"])
    with pytest.raises(ValueError, match="got 'dev'"):
        generate(LONG, 1, "dev")


def test_all_texts_divide_as_the_shares_say():
    rng = random.Random(0)
    counts = Counter(split_of(f"p:ME\nh={rng.randrange(10**5):05}") for _ in range(8000))
    assert counts["train"] == pytest.approx(6000, abs=200) and counts["test"] == pytest.approx(1000, abs=150)


def test_a_blind_guess_is_right_less_than_once_in_ten_thousand():
    demonstrations = generate(LONG, 2500, "test")
    rng = random.Random(0)
    hits = sum(f"{rng.randrange(10**5):05}" == a[2:] for d in demonstrations for a in d.actions)
    common = Counter(a[2:] for d in demonstrations for a in d.actions).most_common(1)[0][1]
    assert hits <= 2  # of 20,000; 0.2 expected at 1e-5
    assert common <= 10  # no state is so frequent that naming it always would pay


def test_copying_is_seldom_right():
    for name, bound in (("short", 0.01), ("long", 0.03), ("ood_ops", 0.1)):
        pairs = [
            (before[2:], action[2:])
            for d in generate(PRESETS[name], 1000, "test")
            for before, action in zip((d.problem.split("\n")[1], *d.actions), d.actions, strict=False)
        ]
        assert sum(before == after for before, after in pairs) / len(pairs) < bound, name


def test_the_floor_of_a_guess_that_knows_the_rules():
    maps = {tuple(apply(b, apply(w, apply(a, "0123456789")))) for a in "ABCMNO" for w in "UVWXYZ" for b in "DEFPQR"}
    assert len(maps) <= 40 and len({m[1] + m[0] for m in maps}) == len(maps)  # two digits give the map away


@given(seed=st.integers(0, 1000), index=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_a_corrupted_solution_scores_less(seed, index):
    demonstration = generate(LONG, 1, "test", first=index)[0]
    digit, slip, drop = (corrupt(demonstration, seed, kind) for kind in ("digit", "slip", "drop"))
    assert sum(verify(demonstration, digit).actions) == 7
    right = verify(demonstration, slip).actions
    assert right == tuple(sorted(right, reverse=True)) and not right[-1] and len(slip) == 8
    assert len(drop) == 7 and sum(verify(demonstration, drop).actions) < 8
    for actions in (digit, slip, drop):
        assert not verify(demonstration, actions).chain and not verify_answer("\n".join(actions), demonstration)
    assert not verify_answer("\n".join(slip), demonstration, chain=False)


def test_a_solution_with_too_much_or_nothing_is_not_a_chain():
    demonstration = generate(LONG, 1)[0]
    actions = demonstration.actions
    extra = verify(demonstration, (*actions, "q=00000"))
    assert all(extra.actions) and not extra.chain
    assert verify(demonstration, ()).actions == (False,) * 8
    for chain in (True, False):
        assert not any(verify_answer(text, demonstration, chain=chain) for text in ("", " \n"))


def test_the_last_line_alone_can_be_asked_for():
    demonstration = generate(LONG, 1)[0]
    last = demonstration.actions[-1]
    assert verify_answer(last, demonstration, chain=False) and not verify_answer(last, demonstration)
    assert not verify_answer(last + "0", demonstration, chain=False)
    assert verify_answer("\n\n".join(demonstration.actions) + "\n", demonstration)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("run", (0, 2)),
        ("run", (3, 2)),
        ("run", (1, 26)),
        ("digits", 4),
        ("multiply", 1.1),
        ("multiply", -0.1),
        ("seed", -1),
    ],  # fmt: skip
)
def test_settings_out_of_range_name_field_and_value(field, value):
    with pytest.raises(ValueError, match=field) as error:
        Arithmetic(**{field: value})
    assert str(value) in str(error.value)
