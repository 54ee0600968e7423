"""Probes: how they are found, run and counted, and the numbers that scoring gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsrl.collect.score import RowScorer, score_trees
from jaxsrl.collect.share import Share
from jaxsrl.config.overrides import override, to_dict
from jaxsrl.config.run import Validate
from jaxsrl.config.saved import ProbeElsewhere, _value
from jaxsrl.data.actions import Splitter
from jaxsrl.data.chat import Template
from jaxsrl.data.tree import path_tokens
from jaxsrl.evals.audits.information_gain import InformationGain
from jaxsrl.evals.evaluate import Evaluation, probes_of, run_probe
from jaxsrl.evals.find import audit_names, find_probe
from jaxsrl.evals.names import metric_names
from jaxsrl.evals.paths import completion_tree, cut_text, scored_tree, text_tree
from jaxsrl.evals.probe import Call, Measure, Probe, measured
from jaxsrl.models.config import ModelConfig
from jaxsrl.models.transformer import forward, head_matrix, init_params
from jaxsrl.update import make_scorer

from .conftest import BYTES, DEMONSTRATIONS
from .probed import by_hand, problem

MODEL = ModelConfig(vocab=272, width=20, layers=2, heads=2, kv_heads=1, head_width=10, mlp_width=24)
PATHS = ((), ("one\n",), ("one\n", "two\n"), ("one\n", "two\n", "last\n"))
ENDS = ((" a", " bcd"), (" a",), ("xyz", " a", ""), (" a",))


@pytest.fixture(scope="module")
def params():
    return init_params(MODEL, jax.random.key(3))


@jax.jit
def plain(params, row):
    """Log-probs [256 V] of one causal row."""
    at, ones = jnp.arange(row.shape[1])[None], jnp.ones_like(row)
    hidden = forward(MODEL, params, row, at, 0 * ones, ones)
    return jax.nn.log_softmax(hidden[0] @ head_matrix(MODEL, params).astype(jnp.float32), axis=-1)


def dense(params, tokens) -> np.ndarray:
    """Log-prob of each token but the first; what is behind a token changes nothing."""
    row = np.zeros((1, 256), np.int32)
    row[0, : len(tokens)] = tokens
    return np.asarray(plain(params, row))[np.arange(len(tokens) - 1), tokens[1:]]


def test_scores_on_the_tree_are_those_of_plain_rows(params, monkeypatch):
    """However the trees share rows: one row for all, or rows that repeat what is shared."""
    program = make_scorer(MODEL, 1.0)
    made = [scored_tree(Template(), BYTES, text, PATHS, ENDS) for text in ("3+4?", "a longer question, of 40 signs?")]
    trees = [tree for tree, _ in made]
    found = score_trees(RowScorer(score=program, rows=2), params, trees)
    for (tree, nodes), told in zip(made, found, strict=True):
        for path, ends, of_path in zip(PATHS, ENDS, nodes, strict=True):
            for end, node in zip(ends, of_path, strict=True):
                tokens = path_tokens(tree, node).tolist()
                assert BYTES.decode(tokens).endswith("".join(path) + end) and len(told[node]) == len(end)
                if end:
                    np.testing.assert_allclose(told[node], dense(params, tokens)[-len(end) :], atol=2e-5)
    calls = []
    monkeypatch.setattr("jaxsrl.collect.score.MOST_TOKENS", 256)
    narrow = RowScorer(score=lambda p, batch: calls.append(batch.token.shape) or program(p, batch), rows=2)
    long = [scored_tree(Template(), BYTES, "q" * 100, [(f"step {i} {'x' * 90}\n",) for i in range(9)], [["7"]] * 9)]
    (told,) = score_trees(narrow, params, [long[0][0]])
    assert len(told) == 9 and set(calls) == {(2, 256)} and len(calls) > 2
    node = long[0][1][7][0]
    want = dense(params, path_tokens(long[0][0], node).tolist())[-1:]
    np.testing.assert_allclose(told[node], want, atol=2e-5)


def test_a_negative_control_sees_its_siblings(params):
    """Were continuations not kept apart, the second would be scored behind the first."""
    tree, ((first, second),) = scored_tree(Template(), BYTES, "3+4?", [("one\n",)], [["7", "8"]])
    (told,) = score_trees(RowScorer(score=make_scorer(MODEL, 1.0)), params, [tree])
    behind = np.concatenate([path_tokens(tree, first), tree.nodes[second].token]).tolist()
    assert abs(told[second][0] - dense(params, behind)[-1]) > 1e-3


def test_a_process_without_problems_scores_as_often_as_the_others(params, monkeypatch):
    """Of two processes that share an evaluation of one problem."""
    shapes = []
    score = lambda params, batch: shapes.append(batch.token.shape) or np.zeros(batch.token.shape)
    tree, _ = scored_tree(Template(), BYTES, "3+4?", [("one\n",)], [["7"]])
    share = Share(index=1, count=2, held=(False, True))
    other = iter([[1], [len(tree.nodes[0].token) + 9, 99], [1]])  # targets, longest path and tokens, calls
    monkeypatch.setattr("jaxsrl.collect.score.from_all", lambda mine: np.stack([next(other), mine]))
    assert score_trees(RowScorer(score=score, rows=2, share=share), params, []) == []
    assert shapes == [(2, 128)] and next(other, None) is None


def test_whole_texts_are_scored_but_for_their_first_token():
    policy = by_hand(None, logp=lambda context, token: -float(len(context)))
    ((short, long),) = policy.score_texts([["abc", "abcd"]])
    begin = len(BYTES.decode(list(BYTES.begin)))
    assert (
        short.tolist() == [-1.0 - begin, -2.0 - begin][: len(short)] and long.tolist()[: len(short)] == short.tolist()
    )
    tree, nodes = text_tree(BYTES, ["abc", "abde"])
    assert nodes[0][0] == nodes[1][0] and len(tree.nodes) == 3


def test_what_paths_share_is_one_trunk():
    tree = completion_tree(Template(), BYTES, "q", PATHS)
    assert len(tree.nodes) == 1 + 3 and set(tree.branch) == {("solve", i) for i in range(4)}
    assert BYTES.decode(path_tokens(tree, tree.branch["solve", 3]).tolist()).endswith("one\ntwo\nlast\n")


@pytest.mark.parametrize("text, style", [
    ("a = 1\n\n  b = 2\nc", "lines"), ("One is. Two is.  Three.", "sentences"), ("\n x\n", "lines"), ("", "lines"),
    ("1. a\n2. b\nmore", "numbered"),
])  # fmt: skip
def test_pieces_joined_are_the_text(text, style):
    pieces = cut_text(text, Splitter(style=style))
    assert "".join(pieces) == text and all(piece.strip() for piece in pieces)


def test_paths_are_written_on_and_solutions_are_written_once():
    calls = []

    def says(text, chain, temperature, noise):
        return f"{text}|{chain.strip()}|{'s' if temperature else 'g'}"

    policy = by_hand(says, calls=calls)
    own = policy.own([*DEMONSTRATIONS[:2], DEMONSTRATIONS[0]])
    assert [one.problem_id for one in own] == ["a", "b"]
    own = [problem("x", "1+1?", "2"), problem("y", "2+2?", "4")]
    found = policy.write(Call(tokens="solve"), own, [[(), ("k\n",)], [("m\n",)]], jax.random.key(0))
    assert [[one.text for (one,) in some] for some in found] == [["1+1?||g", "1+1?|k|g"], ["2+2?|m|g"]]
    (first, _), _ = policy.write(Call(tokens="solve"), own, [[(), ()], []], jax.random.key(0), 1.0, samples=6)
    assert [one.text for one in first] == ["1+1?||s"] * 6
    before = len(calls)
    assert policy.solve(own, jax.random.key(0)) == policy.solve(own[::-1], jax.random.key(1))[::-1]
    assert len(calls) == before + 1


def test_metrics_are_means_of_what_records_say():
    policy = by_hand(None)
    measures = (Measure(name="x", meaning="", share=True), Measure(name="y", meaning=""))
    records = [
        {"problem": "x", "values": {"x": 1.0, "y": 2.0}}, {"problem": "x", "values": {"x": 0.0}},
        {"problem": "y", "values": {"x": 1.0, "y": None}},
    ]  # fmt: skip
    found = measured(policy, [problem("x", "", "1"), problem("y", "", "1")], measures, records)
    assert found["x"] == pytest.approx(2 / 3) and found["y"] == 2.0 and found["problems"] == 2
    assert found["x_low"] < found["x"] < found["x_high"] and "y_low" not in found


OWN = '''
from dataclasses import dataclass
from typing import ClassVar
from jaxsrl.evals.probe import Call, Measure, measured

@dataclass(frozen=True, kw_only=True)
class Shouting:
    """How much of a solution is upper case."""

    name: str = "shouting"
    least: int = 1
    calls: ClassVar = (Call(tokens="solve"),)
    needs_answer: ClassVar[bool] = False
    measures: ClassVar = (Measure(name="upper", meaning="characters in upper case"),)

    def __call__(self, policy, demonstrations, key):
        own = policy.own(demonstrations)
        written = policy.solve(own, key)
        records = [
            {"problem": one.problem_id, "text": w.text, "values": {"upper": float(sum(c.isupper() for c in w.text))}}
            for one, w in zip(own, written, strict=True)
        ]
        return measured(policy, demonstrations, self.measures, records), records

PROBE = Shouting()
'''


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "shouting.py"
    path.write_text(OWN)
    return path


def test_a_made_up_audit_is_one_file(own_file):
    probe = find_probe(str(own_file))
    policy = by_hand(lambda text, chain, temperature, noise: "ABc" if text == "q" else "Dd")
    asked = [problem("x", "q", "1"), problem("y", "r", "1")]
    metrics, records = run_probe(probe, policy, jax.random.key(0), asked)
    assert metrics["shouting/upper"] == 1.5 and [r["text"] for r in records] == ["ABc", "Dd"]
    settings = Evaluation(modes=(), probes=(probe,))
    assert probes_of(settings) == [probe] and metric_names(settings) == ["shouting/problems", "shouting/upper"]
    Validate(evaluation=settings, metric="shouting/upper")
    with pytest.raises(ValueError, match="belongs to no mode of this evaluation; it begins with one of shouting"):
        Validate(evaluation=settings, metric="actions/exact")


def test_its_file_may_postpone_annotations(tmp_path):
    path = tmp_path / "postponed.py"
    path.write_text("from __future__ import annotations\n" + OWN)
    assert override((find_probe(str(path)),), ["shouting.least=3"])[0].least == 3


def test_every_file_of_the_folder_is_an_audit():
    assert {"faithfulness", "information_gain"} <= set(audit_names())
    for name in audit_names():
        probe = find_probe(name)
        names = [measure.name for measure in probe.measures]
        assert probe.name == name and len(names) == len(set(names)) and all(m.meaning for m in probe.measures)
        assert hash(type(probe)) and probe.calls and isinstance(probe.needs_answer, bool)


@pytest.mark.parametrize("text, said", [
    ("PROBE = 3", "PROBE is a int without name, measures, calls"), ("x = 1", "has no PROBE"),
    ("import nothing_like_it", "ModuleNotFoundError"),
    (OWN.replace('"shouting"', '"direct"'), "is the name of a mode"),
    (OWN.replace("frozen=True, ", ""), "must be a frozen dataclass"),
])  # fmt: skip
def test_a_file_that_holds_no_probe_is_told_why(tmp_path, text, said):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        find_probe(str(path))


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(ValueError, match="did you mean faithfulness\\? There are: "):
        find_probe("faithfullness")
    with pytest.raises(ValueError, match="no file nowhere.py"):
        find_probe("nowhere.py")


def test_probes_of_a_run_are_read_back_from_its_folder(own_file):
    given = InformationGain(style="sentences")
    assert _value(Probe, to_dict(given), "where", ()) == given
    lost = _value(Probe, to_dict(find_probe(str(own_file))), "where", ())
    assert isinstance(lost, ProbeElsewhere) and lost.name == "shouting"
    with pytest.raises(ValueError, match="take the config file"):
        lost(None, (), None)


@pytest.mark.parametrize("probes", [(InformationGain(), InformationGain()), (InformationGain(name="direct"),)])
def test_probes_of_an_evaluation_have_names_of_their_own(probes):
    with pytest.raises(ValueError, match="names of their own"):
        Evaluation(probes=probes)
    with pytest.raises(ValueError, match="modes must name"):
        Evaluation(modes=())
