import pytest

from jaxsrl.data.sources import Order, take


def walk(count, seed, n, steps, position=0, **shard):
    order, items = Order(count=count, seed=seed, **shard), range(count)
    taken = []
    for _ in range(steps):
        new, position = take(items, order, position, n)
        taken += new
    return taken, position


@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_every_epoch_is_a_permutation(count):
    order = Order(count=count, seed=3)
    epochs = [[order(epoch * count + k) for k in range(count)] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count >= 7:
        assert len({tuple(epoch) for epoch in epochs}) == 4


def test_the_seed_changes_the_order():
    assert walk(50, 0, 5, 10) == walk(50, 0, 5, 10)
    assert walk(50, 0, 5, 10) != walk(50, 1, 5, 10)


@pytest.mark.parametrize("stop", [1, 4, 5, 10, 13])  # an epoch of 20 ends after 5 takes of 4
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(stop):
    whole, end = walk(20, 0, 4, 20)
    head, position = walk(20, 0, 4, stop)
    tail, resumed_end = walk(20, 0, 4, 20 - stop, position=position)
    assert position == 4 * stop and head + tail == whole and resumed_end == end


def test_takes_cross_the_end_of_an_epoch():
    taken, _ = walk(7, 0, 4, 7)  # four epochs in seven takes
    order = Order(count=7, seed=0)
    assert taken == [order(k) for k in range(28)]
    assert all(sorted(taken[7 * e : 7 * e + 7]) == list(range(7)) for e in range(4))


@pytest.mark.parametrize("shard_count", [1, 2, 4])
def test_processes_share_one_order(shard_count):
    whole, _ = walk(20, 5, 4, 10)
    joined, position = [], 0
    for _ in range(10):
        shares = [
            take(range(20), Order(count=20, seed=5, shard_index=i, shard_count=shard_count), position, 4)
            for i in range(shard_count)
        ]
        joined += [item for share, _ in shares for item in share]
        assert len({after for _, after in shares}) == 1
        position = shares[0][1]
    assert joined == whole  # so the shares are disjoint and cover every epoch


def test_wrong_settings_are_refused():
    for setting in ({"count": 0}, {"seed": -1}, {"shard_index": 2, "shard_count": 2}, {"shard_count": 0}):
        with pytest.raises(ValueError, match=next(iter(setting))):
            Order(**{"count": 3, "seed": 0} | setting)
    order = Order(count=3, seed=0, shard_count=2)
    for items, position, n in ((range(4), 0, 2), (range(3), 0, 3), (range(3), 0, 0), (range(3), -1, 2)):
        with pytest.raises(ValueError):
            take(items, order, position, n)
