"""Imports point down: a file imports from lower floors or from its own room."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "jaxsrl"
FLOORS = [
    {"checksums", "descendants", "exit_codes", "old_names", "ops", "processes", "redact", "sharding", "types"},
    {"models"},
    {"data", "tasks", "rollout", "rewards", "objectives"},
    {"update", "checkpoint", "metrics", "console", "pace", "progress", "speed", "watchdog"},
    {"collect", "mirrors", "resumable", "stores"},
    {"evals", "report", "runs", "policy"},
    {"config"},
    {"stages"},
    {"trace"},
    {"train"},
    {"studies", "bench", "clusters"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
BASE = ("old_names", "types", "sharding", "processes")  # of the ground floor, these carry values for everyone on it


def imports(source: str):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jaxsrl."):
            yield node.module.split(".")[1]
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names]
            assert not any(n == "jaxsrl" or n.startswith("jaxsrl.") for n in names), "write: from jaxsrl.x import y"
            assert getattr(node, "level", 0) == 0 and getattr(node, "module", "") != "jaxsrl", (
                "write: from jaxsrl.x import y"
            )


def violations(room: str, source: str) -> list[str]:
    allowed = lambda to: to == room or FLOOR.get(to, len(FLOORS)) < FLOOR[room] or (FLOOR[room] == 0 and to in BASE)
    return [f"{room} imports {to}" for to in imports(source) if not allowed(to)]


def test_imports_point_down():
    files = [p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE]
    assert files
    wrong = [
        f"{p.relative_to(PACKAGE)}: {v}"
        for p in files
        for v in violations(p.relative_to(PACKAGE).parts[0].removesuffix(".py"), p.read_text())
    ]
    assert not wrong, wrong


def test_floors_hold_the_rooms_that_are_there():
    there = {p.stem for p in PACKAGE.iterdir() if not p.name.startswith("__") and (p.is_dir() or p.suffix == ".py")}
    assert there - set(FLOOR) == set() and set(FLOOR) - there == {"__main__"}


def test_the_rule_catches_an_upward_and_a_sideways_import():
    assert violations("models", "from jaxsrl.data.tree import x")
    assert violations("collect", "from jaxsrl.policy import x") and violations("policy", "from jaxsrl.runs import x")
    assert violations("stages", "from jaxsrl.train import x") and violations("config", "from jaxsrl.stages import x")
    assert violations("rewards", "from jaxsrl.data.tree import x")
    assert not violations("data", "from jaxsrl.types import Tree")
