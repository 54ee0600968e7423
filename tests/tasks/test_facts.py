"""A world of facts: relations without fixed points, questions over one half alone, and steps that can be checked."""

from jaxsrl.tasks.draw import generate
from jaxsrl.tasks.facts import Facts, chain, facts, half_of


def test_relations_give_every_entity_one_other():
    known = facts(0, 40, 4)
    assert len(known) == 160 and facts(1, 40, 4) != known
    for relation in ("ally", "boss", "cook", "dean"):
        there = {entity: after for (r, entity), after in known.items() if r == relation}
        assert len(there) == 40 and {*there.values()} == {*there} and all(a != b for a, b in there.items())


def test_a_question_follows_its_relations_from_the_entity():
    known = facts(0, 40, 4)
    first = next(iter({entity for _, entity in known}))
    actions, answer = chain(known, ("boss", "ally"), first)
    middle = known["boss", first]
    assert actions == (f"boss of {first} is {middle}", f"ally of {middle} is {known['ally', middle]}")
    assert answer == known["ally", middle]


def test_halves_are_apart_and_every_fact_is_stated_once():
    said = lambda task, count: {a.partition(" is ")[0] for d in generate(task, count) for a in d.actions}
    taught, kept = (said(Facts(half=half), 400) for half in ("taught", "kept"))
    assert not taught & kept and min(len(taught), len(kept)) > 40
    assert {half_of(*one.split(" of ")) for one in taught} == {"taught"}
    alone = said(Facts(hops=(1, 1)), 160)
    assert len(alone) == 160 and taught | kept <= alone


def test_steps_are_checked_against_the_world():
    task = Facts()
    d = generate(task, 1)[0]
    assert all(task.true_steps("\n".join(d.actions)))
    wrong = d.actions[0].rpartition(" ")[0] + " Nobody"
    assert task.true_steps(f"{wrong}\nI think so\nboss of Nobody is {d.answer}") == (False, None, None)
    assert not task.right(wrong, d) and task.right(f"guess is {d.answer}", d)
