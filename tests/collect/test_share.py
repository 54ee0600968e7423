"""Which problems of an evaluation a process asks, and who tells of them."""

import numpy as np
import pytest

from jaxsrl.collect.share import Share, share_of

pytestmark = pytest.mark.fast


def masks(*rows):
    return {process: [row in own for row in range(4)] for process, own in enumerate(rows)}


def test_each_process_asks_for_the_rows_that_it_holds():
    shares = [share_of(masks((0, 1), (2, 3)), process) for process in range(2)]
    assert [(s.index, s.count, s.tells) for s in shares] == [(0, 2, True), (1, 2, True)]
    assert np.flatnonzero(shares[1].jobs(3)).tolist() == [6, 7, 8, 9, 10, 11]


def test_processes_with_the_same_rows_ask_the_same_and_one_tells():
    shares = [share_of(masks((0, 1), (2, 3), (0, 1), (2, 3)), process) for process in range(4)]
    assert [(s.index, s.count, s.tells) for s in shares] == [(0, 2, True), (1, 2, True), (0, 2, False), (1, 2, False)]


@pytest.mark.parametrize("rows", [((0, 1, 2, 3), (0, 1, 2, 3)), ((0, 1, 2), (2, 3)), ((0, 1, 2), (3,))])
def test_rows_that_are_not_dealt_evenly_are_asked_by_all(rows):
    shares = [share_of(masks(*rows), process) for process in range(2)]
    assert [(s.count, s.held, s.tells) for s in shares] == [(1, None, True), (1, None, False)]


def test_a_problem_goes_to_one_process_however_often_it_comes():
    problems = list("abacbd")
    own = [Share(index=i, count=2).own(problems).tolist() for i in range(2)]
    assert np.sum(own, axis=0).tolist() == [1] * 6
    assert own[0] == [True, False, True, True, False, False]
    assert Share().own(problems).all() and Share().jobs(2) == slice(None)
