"""A probe from its name: each audit is a file with one frozen value `PROBE`, here in `audits/` or of one's own."""

import dataclasses
import difflib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from jaxsrl.evals.probe import Probe
from jaxsrl.evals.settings import MODES

FOLDER = Path(__file__).parent / "audits"
NEEDED = ("name", "measures", "calls", "needs_answer", "__call__")


def audit_names() -> list[str]:
    """The audits that come with the package: the files of the folder."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def find_probe(text: str) -> Probe:
    """The probe of a name, as `faithfulness`, or of a file of one's own, as `probes/mine.py`.

    Raises: ValueError naming the file and what it lacks, or the names that there are.
    """
    if text.endswith(".py"):
        return _probe(_module(Path(text)), text)
    known = audit_names()
    if text not in known:
        near = difflib.get_close_matches(text, known, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"no probe {text!r}; {meant}There are: {', '.join(known)}; or give the path of a file of yours"
        )
    return _probe(importlib.import_module(f"jaxsrl.evals.audits.{text}"), f"{FOLDER / text}.py")


def _module(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"no file {path}; a probe of your own is a file with a frozen value PROBE")
    spec = importlib.util.spec_from_file_location(f"jaxsrl_probe_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where its annotations are looked up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a file does when it is run, it is the file that is wrong
        raise ValueError(f"{path}: {type(error).__name__}: {error}") from error
    return module


def _probe(module: ModuleType, where: str) -> Probe:
    found = vars(module).get("PROBE")
    if found is None:
        raise ValueError(f"{where} has no PROBE; write PROBE = YourProbe() at its end")
    missing = [name for name in NEEDED if not hasattr(found, name)]
    if missing:
        raise ValueError(f"{where}: PROBE is a {type(found).__name__} without {', '.join(missing)}; see evals/probe.py")
    if not dataclasses.is_dataclass(found) or not type(found).__dataclass_params__.frozen:
        raise ValueError(f"{where}: PROBE must be a frozen dataclass, so that it can be saved and set with --set")
    if found.name in MODES:
        raise ValueError(f"{where}: PROBE.name={found.name!r} is the name of a mode; choose another")
    return found
