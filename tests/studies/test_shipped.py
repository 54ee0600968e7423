"""Every study that ships: its cells are checked and costed, on a few of its demonstrations."""

import re
from dataclasses import replace

import pytest

from jaxsrl.bench.flops import useful
from jaxsrl.models.config import parameter_count
from jaxsrl.studies.plan import plan
from jaxsrl.studies.study import Study, load_made, load_study
from jaxsrl.studies.transfer import Transfer
from tests.studies.test_scale import CONFIGS

FILES = sorted((CONFIGS / "studies").glob("*.py"))
SAID = ("Run:", "Page:", "Takes:", "Seen:")


def on_few(study: Study) -> Study:
    """The same study on 40 demonstrations a stage and one seed: its data are made and measured in a second."""

    def few_of(data):
        """Data may change what others make."""
        return replace(data, data=few_of(data.data)) if "data" in vars(data) else replace(data, train=40)

    def few(config):
        return replace(config, stages=tuple(replace(s, data=few_of(s.data)) for s in config.stages))

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
    made = load_made(path, {"transfer": Transfer})
    assert "Seen:" in path.read_text() and len(made.rates) >= 5 and len(made.seeds) >= 4


def test_the_example_of_the_readme_is_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(CONFIGS.parent)
    text = (CONFIGS.parent / "jaxsrl" / "studies" / "README.md").read_text()
    path = tmp_path / "rates.py"
    path.write_text(re.search(r"```python\n(from .*?)```", text, re.DOTALL).group(1))
    cells = plan(on_few(load_study(path)), useful)
    assert len(cells) == 5 and cells[0].arms == ("anchor", "again")  # of one seed; the text says 20 of four


def test_a_size_of_the_srl_ladder_takes_the_budget():
    """FLOPs of SRL, the same for every size, from the tokens that its budget names."""
    made = load_study(CONFIGS / "studies" / "srl_ladder.py")
    configs = [arm.config for arm in made.arms]
    assert len({parameter_count(config.model) for config in configs}) >= 6
    flops = [config.stages[1].tokens * parameter_count(config.model) for config in configs]
    assert max(flops) < 1.001 * min(flops)
    rates = [[stage.optimizer.lr * config.model.width for stage in config.stages] for config in configs]
    assert all(own == pytest.approx(rates[0]) for own in rates)
