"""Every study that ships: its cells are checked and costed, on a few of its demonstrations."""

import re
from dataclasses import replace

import pytest

from jaxsrl.bench.flops import useful
from jaxsrl.studies.plan import plan
from jaxsrl.studies.study import Study, load_made, load_study
from jaxsrl.studies.transfer import Transfer
from tests.studies.test_scale import CONFIGS

FILES = sorted((CONFIGS / "studies").glob("*.py"))
SAID = ("Run:", "Page:", "Takes:", "Seen:")


def on_few(study: Study) -> Study:
    """The same study on 40 demonstrations a stage and one seed: its data are made and measured in a second."""

    def few(config):
        return replace(config, stages=tuple(replace(s, data=replace(s.data, train=40)) for s in config.stages))

    arms = tuple(arm if arm.config is None else replace(arm, config=few(arm.config)) for arm in study.arms)
    return replace(study, base=few(study.base), arms=arms, seeds=study.seeds[:1])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_that_ships_can_be_run(path):
    """And its header says how, what it costs, and what was seen or that it was not run."""
    made = load_study(path)
    cells = plan(on_few(made), useful)
    assert all(cell.cost.tokens > 1e5 and cell.cost.flops > 1e10 for cell in cells)
    assert {name for cell in cells for name in cell.arms} == {arm.name for arm in made.arms}
    text = path.read_text()
    header = text.split('"""')[1]
    assert all(word in header for word in SAID) and f"configs/studies/{path.name}" in header
    assert re.search(r"Takes:.*\d", header) and made.smallest_effect <= 0.1 and len(made.fixed) > 60


def test_the_sweep_that_ships_is_one():
    path = CONFIGS / "ladders" / "arithmetic_rates.py"
    made = load_made(path, "transfer", Transfer)
    assert "Seen:" in path.read_text() and len(made.rates) >= 5 and len(made.seeds) >= 4
