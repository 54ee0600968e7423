"""A world of facts that no text holds: questions of several hops, each of which is one fact to recall.

    ally of boss of Tiro?        a problem of two hops
    boss of Tiro is Kela         an action: a fact of the world
    ally of Kela is Venu         the last one; its entity is the answer

Every relation gives every entity one other. Facts come in two halves, by a hash: questions can be about one half alone,
so that a base model can be taught all facts and a fine-tuned one trained on questions about one half. What it then
loses of the other half is knowledge that fine-tuning never showed.
"""

import random
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise, product
from typing import Literal, get_args

from jaxsrl.tasks.draw import Split, below, digest, first_of, lines_of, pick, problem_id, shuffled, split_of, stream
from jaxsrl.types import Demonstration

Half = Literal["all", "taught", "kept"]
RELATIONS = ("ally", "boss", "cook", "dean", "envoy", "friend", "guard", "heir")
Fact = tuple[str, str]  # relation and entity
World = dict[Fact, str]  # -> entity


@dataclass(frozen=True, kw_only=True)
class Facts:
    """How large the world is and what is asked of it.

    Args:
      entities, relations: there are entities * relations facts.
      hops: fewest and most of a question. Inclusive. Of one hop, every fact stands in every split: it is stated, not
        inferred. Longer questions are on one side of a split each.
      half: of the facts that questions go over: `taught`, `kept`, or `all`.
      world: seed of the facts; `seed` is that of the questions.
    """

    entities: int = 40
    relations: int = 4
    hops: tuple[int, int] = (2, 3)
    half: Half = "all"
    world: int = 0
    seed: int = 0

    def __post_init__(self):
        low, high = self.hops
        if not 1 <= low <= high <= 5:
            raise ValueError(f"hops must be 1 <= fewest <= most <= 5, got {self.hops}")
        if not 8 <= self.entities <= 1000 or not 2 <= self.relations <= len(RELATIONS):
            raise ValueError(
                f"entities must be in 8..1000 and relations in 2..{len(RELATIONS)}, got {self.entities} and "
                f"{self.relations}"
            )
        if self.half not in get_args(Half):
            raise ValueError(f"half must be one of {', '.join(get_args(Half))}, got {self.half!r}")
        if self.seed < 0 or self.world < 0:
            raise ValueError(f"seed and world must be >= 0, got seed={self.seed} world={self.world}")

    def demonstration(self, split: Split, index: int) -> Demonstration:
        known = facts(self.world, self.entities, self.relations)
        usable = [fact for fact in known if self.half in ("all", half_of(*fact))]
        if self.hops == (1, 1):  # each fact once in as many problems as there are facts
            order = shuffled(stream("facts", self.seed, split, index // len(usable)), usable)
            relation, entity = order[index % len(usable)]
            relations = (relation,)
        else:
            rng = stream("facts", self.world, self.seed, self.half, split, index)
            in_split = lambda walk: walk and split_of(ask(*walk)) == split
            draw = lambda: walk if in_split(walk := self._walk(known, usable, rng)) else None
            relations, entity = first_of(draw, f"question of {self} in {split}")
        problem = ask(relations, entity)
        actions, answer = chain(known, relations, entity)
        return Demonstration(
            problem_id=problem_id("facts", problem), problem=problem, actions=actions, answer=answer,
            source=f"facts:{self.world}/{self.seed}/{split}/{index}",
        )  # fmt: skip

    def _walk(self, known: World, usable: list[Fact], rng: random.Random) -> tuple[tuple[str, ...], str] | None:
        """Relations and where they begin; None where the walk leaves its half or takes a fact twice."""
        _, start = pick(rng, usable)
        at, taken = start, []
        for _ in range(self.hops[0] + below(rng, self.hops[1] - self.hops[0] + 1)):
            ahead = [r for r in RELATIONS[: self.relations] if self.half in ("all", half_of(r, at))]
            if not ahead:
                return None
            taken.append((pick(rng, ahead), at))
            at = known[taken[-1]]
        return (tuple(relation for relation, _ in taken), start) if len({*taken}) == len(taken) else None

    def right(self, text: str, demonstration: Demonstration) -> bool:
        """The entity of the last line is the answer."""
        lines = lines_of(text)
        return bool(lines) and lines[-1].rpartition(" is ")[2] == demonstration.answer

    def true_steps(self, text: str) -> tuple[bool | None, ...]:
        """Of each line, whether the fact it states holds in the world; None where it states none."""
        known = facts(self.world, self.entities, self.relations)
        out = []
        for line in lines_of(text):
            head, _, entity = line.partition(" is ")
            relation, _, of = head.partition(" of ")
            out.append(known[relation, of] == entity if (relation, of) in known and entity else None)
        return tuple(out)

    def finished(self, action: str, demonstration: Demonstration) -> bool:
        """It states the relation that the question begins with, of what the fact before it gave."""
        return action.strip().partition(" is ")[0] == demonstration.actions[-1].partition(" is ")[0]

    def difficulty(self, demonstration: Demonstration) -> float:
        """Hops."""
        return float(demonstration.problem.count(" of "))


@lru_cache(8)
def facts(world: int, entities: int, relations: int) -> World:
    """Every fact of a world. A relation has no fixed point, and no entity twice."""
    names = entity_names(world, entities)
    out = {}
    for relation in RELATIONS[:relations]:
        ring = shuffled(stream("world", world, relation), names)
        out |= {(relation, a): b for a, b in pairwise([*ring, ring[0]])}
    return out


def entity_names(world: int, count: int) -> list[str]:
    """Names of two syllables, none of them twice."""
    syllables = [a + b for a, b in product("bdfgklmnprstvz", "aeiou")]
    every = shuffled(stream("names", world), [(a + b).capitalize() for a, b in product(syllables, syllables)])
    return every[:count]


def half_of(relation: str, entity: str) -> Half:
    return "taught" if digest(f"{relation} of {entity}")[0] % 2 else "kept"


def ask(relations, entity: str) -> str:
    """The question that follows `relations` in their order; it names them from the last one to the first."""
    return "".join(f"{relation} of " for relation in reversed(relations)) + entity + "?"


def chain(known: World, relations, entity: str) -> tuple[tuple[str, ...], str]:
    """The facts in order, and the entity that they end with."""
    actions = []
    for relation in relations:
        after = known[relation, entity]
        actions.append(f"{relation} of {entity} is {after}")
        entity = after
    return tuple(actions), entity
