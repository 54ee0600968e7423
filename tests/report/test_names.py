import pytest

from jaxsrl.report.names import is_share, meaning, number, order, unit


@pytest.mark.parametrize(
    ("value", "name", "shown"),
    [(0.7123, "actions/exact", "71.2 %"),
     (0.05, "collect/kept_share", "5.0 %"), (0.58349, "actions/similarity", "0.583"),
     (-0.25, "reward/mean", "−0.250"), (5200.4, "", "5\u202f200"), (64, "", "64"), (0.0, "lr", "0"),
     (3e-5, "lr", "3.00e-5"), (43.27, "completion/tokens_mean", "43.3"), (2.5e7, "", "2.50e7")],
)  # fmt: skip
def test_numbers_are_shown_as_their_name_asks(value, name, shown):
    assert number(value, name) == shown


def test_names_have_units_and_meanings():
    assert unit("chained/answer") == "%" and unit("pack/tokens") == "tokens"
    assert unit("completion/entropy") == "nats per token"
    assert all(is_share(f"direct/{n}") for n in ("avg@8", "pass^4", "sampled_thinks", "no_answer", "leading_share"))
    assert not any(is_share(f"actions/{n}") for n in ("similarity", "above_previous", "count", "tokens_mean"))
    assert "expert" in meaning("forced_actions/exact") and meaning("never/heard") == ""
    assert sorted(["lr", "zzz", "reward/mean"], key=order) == ["reward/mean", "lr", "zzz"]
