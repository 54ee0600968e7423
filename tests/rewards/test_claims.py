"""Arithmetic claims: what is one, and whether it holds."""

import time

import pytest

from jaxsrl.rewards.claims import arithmetic_claims, count_claims


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("So she sells 16 - 3 - 4 = 9 eggs for 9 * $2 = $18.", [True, True]),
        ("16 - 3 = 12", [False]),
        ("total = 3 + 4 = 8", [False]),
        ("3 + 4 = 7 = 14 / 2", [True, True]),
        ("17+25-8=34", [True]),
        ("0 + 2 = 2\n2 + 3 = 5", [True, True]),
        ("- 3 + 4 = 7", [True]),  # a list's dash is no minus
        ("\n* 3 + 4 = 7", [True]),
        ("1. 3 + 4 = 7\n2) 5 * 2 = 11", [True, False]),
        ("so -3 + 5 = 2", []),  # may be a dash
        ("(-3) + 5 = 2", [True]),
        ("= -3 + 5 = 2", [True]),
        ("2(3 + 4) = 14, and (2 + 3)(1 + 1) = 10", [True, True]),
        ("2 + 3 * 4 = 14; (2 + 3) * 4 = 20; 2 + 3 * 4 = 20", [True, True, False]),
        ("8 / 4 / 2 = 1; 2 ^ 3 = 8; -2^2 = -4", [True, True, True]),
        (r"\frac{1}{2} \times 10 = 5, 6 \div 3 = 2, 2 \cdot 3 = 7", [True, True, False]),
        ("3 x 4 = 12 and 3x4=13", [True, False]),
        ("20% of 50 = 10; 1/2 of 10 = 5; 10 / 20 * 100 = 50%; 10 / 20 = 50%", [True, True, True, True]),
        ("10 / 3 = 3.33; 10 / 3 = 3.34; 10 / 3 = 3; 10 / 3 ≈ 3; 10/3 ≈ 4", [True, False, False, True, False]),
        ("1,200 + 34 = 1,234; 3 apples + 4 apples = 7 apples; 5km + 3km = 8km", [True, True, True]),
        ("<<3*4=12>>12 and 3 * 4 = <<3*4=12>>12", [True, True]),
        ("7 equals 3 + 4; 2 plus 3 = 5; 8 divided by 2 equals 5", [True, True, False]),
        ("240 – (40 kids + 60 kids) = 140", [True]),
        ("$25/week * 4 weeks/month = $100/month; 240 hours / 24 hours/day = 10 days", [True, True]),
    ],
)
def test_claims(text, wanted):
    assert [claim.holds for claim in arithmetic_claims(text)] == wanted


@pytest.mark.parametrize(
    "text",
    [
        "x + 3 * 4 = 20", "3x + 4 * 2 = 11", "2x = 10", "x = 5", "5 = 5", "f(3) = 3 + x", "3 + 4 = 7x", "3 + 4 = 7 + y",
        "3 + 4 == 8", "3 + 4 <= 8", "3 + 4 != 8", "a = b", "", "=", "3 +", "3 + = 4", "5 / 0 = 1", "3 4 + 5 = 9",
        "2 ^ 99 = 3", "2 ^ 0.5 = 1", "9" * 30 + " + 1 = 2", "y 2 * 3 = 5", "x2 * 3 = 6", "3 + 4 : = 8",
        "2 kg = 2 * 1000 g", "1 and 1/4 = 15", "4 / 3 = 1 and 1/3", "at 6:00+18 = 24", "16,0000/10 = 1",
        "100 + (100 * 2 = 300",
    ],
)  # fmt: skip
def test_what_was_not_read_whole_is_no_claim(text):
    assert not arithmetic_claims(text)


def test_a_claim_says_what_was_read():
    assert arithmetic_claims("so 3 + 4 = 8 eggs")[0].text == "3 + 4 = 8"
    assert count_claims("3 + 4 = 8 and 1 + 1 = 2") == 2


@pytest.mark.parametrize(
    "text", ["(" * 5000 + "=", "1+" * 20000 + "1=3", "3+4=7 " * 3000, "9^9" * 999 + "=1", "((" * 40 + "1" + "))" * 40]
)
def test_hostile_texts_are_read_in_linear_time(text):
    begin = time.process_time()
    arithmetic_claims(text)
    assert time.process_time() - begin < 2
