"""Completions beside the problem, the actions given and the expert's next one; a browser over them."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxsrl.report.cards import ACTION_MODES, Card, Chosen, Row, choose, score, texts_of
from jaxsrl.report.html import Html, join, tag
from jaxsrl.report.names import MODES, number
from jaxsrl.report.read import Run, is_number
from jaxsrl.report.svg import stage_class
from jaxsrl.report.transcript import clip, completion

ACTION_TEXT = (240, 80)  # characters shown of a longer action that was given
MOST_ACTIONS = 24
# Evaluations say no settings: texts are marked as the default reward compares them.
EVALUATED_AS = {"unit": "char", "autojunk": False}


def rollouts(run: Run, complaints: list[str]) -> Html:
    """The section: how much of the run is here, the browser's controls, and a card for each group or problem."""
    chosen = choose(run, complaints)
    if not chosen.cards:
        return tag("p", "No completions: no stage has sampled or been evaluated yet.", class_="empty")
    texts = texts_of(run, chosen.cards)
    opened = {card.index: i for i, card in reversed(list(enumerate(chosen.cards)))}.values()  # a stage's first
    cards = [_card(card, texts, opened=i in opened) for i, card in enumerate(chosen.cards)]
    return join(_how_much(chosen), _controls(), tag("div", *cards, class_="groups", id="cards"), _more())


def _how_much(chosen: Chosen) -> Html:
    parts = []
    if chosen.sampled:
        shown = chosen.shown(training=True)
        parts.append(f"{number(shown)} of {number(chosen.sampled)} rollouts of training")
    if chosen.evaluated:
        shown = chosen.shown(training=False)
        parts.append(f"{number(shown)} of {number(chosen.evaluated)} completions of evaluations")
    where = "the rest is in the run's folder, rollouts/ and evals/"
    return tag("p", f"On this page: {' and '.join(parts)}; {where}.", class_="how")


def _controls() -> Html:
    """What a script fills and shows; without one all cards are there."""
    selects = [
        tag("label", name, tag("select", tag("option", all_of, value=""), id=f"pick-{key}", data_key=key))
        for key, name, all_of in (
            ("place", "stage and use", "all"), ("step", "step", "all"), ("problem", "problem", "all"),
        )
    ]  # fmt: skip
    bounds = [
        tag("label", name, tag("input", type="number", step="any", id=f"pick-{key}", placeholder=placeholder))
        for key, name, placeholder in (("low", "reward from", "lowest"), ("high", "to", "highest"))
    ]
    orders = (("", "as sampled"), ("top", "highest reward first"), ("bottom", "lowest reward first"))
    order = tag("label", "order", tag("select", *(tag("option", n, value=v) for v, n in orders), id="pick-order"))
    said = tag("output", id="pick-said", aria_live="polite")
    return tag("form", *selects, *bounds, order, said, class_="browser", id="browser", hidden=True)


def _more() -> Html:
    return tag("button", "show more", type="button", id="more", hidden=True)


def _card(card: Card, texts: Mapping[str, Row], *, opened: bool) -> Html:
    known = texts.get(str(card.rows[0].get("demonstration")))
    body = [_problem(known), _actions(card, known), _expert(card), _table(card)]
    scores = [s for s in card.scores if s is not None]
    return tag(
        "details", tag("summary", _facts(card)), *body, class_=f"group {stage_class(card.index)}", open=opened,
        data_place=f"{card.stage}, {card.source}", data_step=card.step, data_problem=card.problem,
        data_top=f"{max(scores):.6g}" if scores else None, data_bottom=f"{min(scores):.6g}" if scores else None,
    )  # fmt: skip


def _facts(card: Card) -> Html:
    size, shown = card.size, len(card.rows)
    count = f"{shown} of {size} completions" if shown < size else f"{size} completion{'s' * (size != 1)}"
    if card.training:
        given = "" if card.after is None else f"after {card.after} action{'s' * (card.after != 1)}"
        place = given if card.after else "at the problem"
        place += ", whole solution" if card.mode == "solve" else ""
        kept = any(row.get("kept") for row in card.rows)
        end = tag("span", "kept" if kept else "dropped", class_="kept" if kept else "dropped")
    else:
        place = MODES.get(card.mode, card.mode)
        end = None
    return tag(
        "span", tag("span", card.stage, class_="stage-name"), tag("span", f"{card.source}, step {card.step}"),
        tag("span", place), tag("span", f"problem {card.problem}"), tag("span", count), tag("span", _worth(card)),
        end, class_="facts",
    )  # fmt: skip


def _worth(card: Card) -> str:
    """The rewards of a card in a few words."""
    scores = [s for s in card.scores if s is not None]
    right = [row["correct"] for row in card.rows if isinstance(row.get("correct"), bool)]
    if not card.training and right:
        return f"{sum(right)} of {len(right)} right"
    if not scores:
        return "no reward"
    low, high, mean = (number(round(v, 3)) for v in (min(scores), max(scores), sum(scores) / len(scores)))
    name = "reward" if card.training else "similarity"
    return f"{name} {low}" if low == high else f"{name} {low} to {high}, mean {mean}"


def _problem(known: Row | None) -> Html:
    if known is None or not isinstance(known.get("text"), str):
        return tag("p", "The text of this problem is not in the run's folder.", class_="aside")
    return _labelled("problem", tag("div", clip(known["text"]), class_="text", dir="auto"))


def _labelled(name: str, content: Html) -> Html:
    return tag("div", tag("span", name, class_="aside"), content, class_="expert")


def _actions(card: Card, known: Row | None) -> Html | None:
    """The expert's actions that a completion was given; of an evaluation all of them, which it is compared with."""
    actions = known.get("actions") if known is not None else None
    if not isinstance(actions, list):
        return None
    seen = known.get("observations") if known is not None else None
    seen = seen if isinstance(seen, list) and len(seen) == len(actions) else [""] * len(actions)
    actions = [_with_observation(*pair) for pair in zip(actions, seen, strict=True)]
    if card.training:
        given = actions[: int(card.after or 0)]
        return _labelled("given", _listed(given, len(given))) if given else None
    return _labelled("expert", _listed(actions, None)) if actions else None


def _with_observation(action: Any, observation: Any) -> Html:
    """An action, and below it what an environment answered."""
    below = tag("div", clip(str(observation), ACTION_TEXT), class_="observation", dir="auto") if observation else None
    return join(clip(str(action), ACTION_TEXT), below)


def _listed(actions: Sequence[Html], given: int | None) -> Html:
    """A numbered list; of a long one the end, which is what comes before the completion, or else the beginning."""
    left_out = max(0, len(actions) - MOST_ACTIONS)
    first = left_out if given is not None else 0
    shown = [tag("li", action, dir="auto") for action in actions[first : first + MOST_ACTIONS]]
    said = tag("span", f"{left_out} more {'before' if first else 'after'} these", class_="aside") if left_out else None
    return tag("div", said if first else None, tag("ol", *shown, start=first + 1, class_="text"),
               None if first else said)  # fmt: skip


def _expert(card: Card) -> Html | None:
    """What all completions of a card were compared with, where it is one text."""
    texts = {row.get("expert_action") for row in card.rows if isinstance(row.get("expert_action"), str)}
    if len(texts) != 1 or not (card.training or card.mode == "direct"):
        return None
    settings = card.rows[0].get("reward_settings")
    action = card.training and isinstance(settings, dict) and "autojunk" in settings
    return _labelled("expert's next" if action else "answer key", tag("span", clip(texts.pop()), class_="text"))


def _table(card: Card) -> Html:
    names = ("reward", "advantage", "tokens") if card.training else ("similarity", "right", "tokens")
    if card.mode == "direct":
        names = names[1:]
    head = tag("tr", *(tag("th", name, scope="col", class_="n") for name in names),
               tag("th", "completion", scope="col", class_="wide"))  # fmt: skip
    return tag("table", tag("thead", head), tag("tbody", *(_row(row, card, names) for row in card.rows)))


def _row(row: Row, card: Card, names: Sequence[str]) -> Html:
    cells = [tag("td", _figure(row, name), class_="n", data_label=name) for name in names]
    flags = (("malformed", row.get("action") is None), ("cut at the cap", row.get("truncated")))
    badges = [tag("span", flag, class_="badge") for flag, there in flags if there]
    place = None
    if card.mode in ACTION_MODES and not card.training and is_number(row.get("branch")):
        own = "own" if card.mode == "chained" else "expert"
        place = tag("span", f"after {row['branch']} {own} action{'s' * (row['branch'] != 1)} ", class_="aside")
    shown = tag("div", _completion(row, card), class_="text", dir="auto")
    worth = score(row, training=card.training)
    return tag("tr", *cells, tag("td", place, *badges, shown, class_="wide"),
               data_reward=None if worth is None else f"{worth:.6g}")  # fmt: skip


def _completion(row: Row, card: Card) -> Html:
    action, expert, settings = row.get("action"), row.get("expert_action"), row.get("reward_settings")
    action, expert = (value if isinstance(value, str) else None for value in (action, expert))
    if not card.training:
        settings = EVALUATED_AS if card.mode in ACTION_MODES else {}
    return completion(row["completion"], action, expert, settings if isinstance(settings, dict) else {})


def _figure(row: Row, name: str) -> str:
    if name == "right":
        return {True: "yes", False: "no"}.get(row.get("correct"), "–") if row.get("correct") in (True, False) else "–"
    value = row.get(name)
    if not is_number(value):
        return "–"
    if name == "tokens":
        return number(value)
    shown = number(round(value, 3))
    return "+" + shown if name == "advantage" and round(value, 3) > 0 else shown
