import gzip
import json

import pytest

from jaxsrl.data.jsonl import Bad, DataError, read_rows, write_quarantine

GOOD = json.dumps({"problem": "p", "solution": "s"}).encode() + b"\n"


def bad_reasons(path, **settings):
    return {row.line: row.reason for _, row in read_rows(path, **settings) if isinstance(row, Bad)}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"problem": "\xff"}\n', "not UTF-8 at byte 13"),
        (b'{"problem": "a}\n', "not JSON"),
        (b"{'problem': 1}\n", "not JSON"),
        (b"[1, 2]\n", "expected a JSON object, got list"),
        (b"null\n", "expected a JSON object, got NoneType"),
        (b'{"answer": NaN}\n', "NaN is not a JSON value"),
        (b'{"answer": -Infinity}\n', "-Infinity is not a JSON value"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "not usable JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}\n", "not usable JSON"),
        (b'{"a": 1} {"a": 2}\n', "not JSON: Extra data"),
    ],
)
def test_a_bad_line_is_reported_and_the_rest_read(tmp_path, line, reason):
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + line + GOOD)
    rows = list(read_rows(path))
    assert [number for number, _ in rows] == [1, 2, 3]
    assert isinstance(rows[0][1], dict) and isinstance(rows[2][1], dict)
    assert str(rows[1][1]).startswith(f"{path}:2: ") and reason in str(rows[1][1])


def test_blank_lines_are_no_rows_but_count_as_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n  \r\n" + GOOD.rstrip())
    assert [number for number, _ in read_rows(path)] == [1, 4] and not bad_reasons(path)


def test_only_line_feeds_end_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps({"problem": "a\u2028b\x0b"}, ensure_ascii=False).encode() + b"\n" + GOOD)
    assert len(list(read_rows(path))) == 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_huge_line_is_skipped_and_not_kept(tmp_path, name):
    path = tmp_path / name
    data = GOOD + b"x" * 3_000_000 + b"\n" + GOOD
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert bad_reasons(path, max_line_bytes=1000) == {2: "line of more than 1000 bytes"}
    assert len(list(read_rows(path, max_line_bytes=1000))) == 3
    assert list(bad_reasons(path, max_line_bytes=len(GOOD))) == [2]  # a line of exactly the limit is read


def test_lost_rows_stop_the_reading_and_name_the_line(tmp_path):
    whole = gzip.compress(b"".join(json.dumps({"problem": str(i) * 99}).encode() + b"\n" for i in range(500)))
    for data in (whole[: len(whole) // 2], whole[:-4], whole[:-8] + b"\0" * 8, b"no gzip at all", whole + b"garbage"):
        path = tmp_path / "a.jsonl.gz"
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.jsonl\.gz:\d+: compressed data"):
            list(read_rows(path))
    path.write_bytes(whole)
    assert len(list(read_rows(path))) == 500


def test_other_names_are_refused(tmp_path):
    with pytest.raises(DataError, match="ends in .jsonl"):
        list(read_rows(tmp_path / "a.json"))
    with pytest.raises(FileNotFoundError):
        list(read_rows(tmp_path / "a.jsonl"))


def test_quarantine_file(tmp_path):
    write_quarantine(tmp_path / "q.jsonl", [Bad("a.jsonl", 3, "problème")])
    assert [row for _, row in read_rows(tmp_path / "q.jsonl")] == [{"file": "a.jsonl", "line": 3, "reason": "problème"}]
