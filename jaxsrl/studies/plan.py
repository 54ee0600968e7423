"""The runs of a study, checked and costed before the first of them starts, and written down as `study.json`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jaxsrl.config.overrides import to_dict
from jaxsrl.config.run import Config
from jaxsrl.policy import Compiled
from jaxsrl.runs import RunError, read_json, write_json
from jaxsrl.stages.begin import Prepared, prepare
from jaxsrl.studies.cost import Cost, Useful, cost
from jaxsrl.studies.identity import PLACES, code_version, data_fingerprint, run_id
from jaxsrl.studies.study import Arm, Study, arm_config, seeds_of, stage_of, study_folder

PLAN = "study.json"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run. Arms that read different stages of it share it."""

    id: str
    config: Config
    arms: tuple[str, ...]
    cost: Cost


def plan(study: Study, useful: Useful, prepared_by: Callable[[Config], Prepared] | None = None) -> tuple[Cell, ...]:
    """Every run of the study, once; all are checked before this returns.

    Args:
      prepared_by: reads and checks a config's data; None does it here, once for all seeds of a config.
    Raises: ConfigError naming the arm whose config cannot be run.
    """
    prepared_by = prepared_by or (lambda config: prepare(config, Compiled()))
    code, cells, known = code_version(), {}, {}
    for arm in study.arms:
        for seed in seeds_of(study, arm):
            config = arm_config(study, arm, seed)
            key = json.dumps(to_dict(replace(config, seed=0)), sort_keys=True)
            if key not in known:
                known[key] = _checked(arm, config, useful, prepared_by)
            data, costs = known[key]
            found = run_id(config, code, data)
            before = cells[found].arms if found in cells else ()
            total = sum(costs.values(), Cost())
            cells[found] = Cell(id=found, config=config, arms=(*before, arm.name), cost=total)
    return tuple(cells.values())


def _checked(arm: Arm, config: Config, useful: Useful, prepared_by) -> tuple[str, dict[str, Cost]]:
    try:
        prepared = prepared_by(config)
    except (ValueError, OSError) as error:
        raise type(error)(f"arm {arm.name!r}: {error}") from error
    return data_fingerprint(config, prepared.splits), cost(config, prepared, useful)


def write_plan(study: Study, cells: tuple[Cell, ...]) -> Path:
    """Writes what a report needs to know of the study besides its runs. Returns the study's folder."""
    folder = study_folder(study)
    folder.mkdir(parents=True, exist_ok=True)
    by_arm: dict[str, Any] = {}
    for arm in study.arms:
        own = [cell for cell in cells if arm.name in cell.arms]
        by_arm[arm.name] = {
            "stage": stage_of(arm, own[0].config),
            "cells": {str(cell.config.seed): cell.id for cell in own},
            "config": without_places(own[0].config),
            "against": arm.against or study.anchor,
        }
    told = {
        "name": study.name, "question": study.question, "fixed": study.fixed, "anchor": study.anchor,
        "repeats": list(study.repeats), "estimator": asdict(study.estimator), "interval": study.interval,
        "smallest_effect": study.smallest_effect, "power": study.power,
        "stop": asdict(study.stop) if study.stop else None, "arms": by_arm,
        "costs": {cell.id: asdict(cell.cost) for cell in cells},
    }  # fmt: skip
    write_json(folder / PLAN, told)
    return folder


def without_places(config: Config) -> dict[str, Any]:
    """What an arm is, without where its runs lie and which seed it has."""
    return {name: value for name, value in to_dict(config).items() if name not in (*PLACES, "seed")}


def against(plan: Mapping[str, Any]) -> dict[str, str]:
    """Arm -> the arm that it is compared with, of all arms but the anchor and its repeats."""
    apart = (plan["anchor"], *plan["repeats"])
    return {name: arm.get("against", plan["anchor"]) for name, arm in plan["arms"].items() if name not in apart}


def read_plan(folder: Path) -> Mapping[str, Any]:
    """Raises RunError where the folder holds no study."""
    if not (Path(folder) / PLAN).is_file():
        raise RunError(
            f"no study in {folder}: `jaxsrl study run FILE` starts it (`scale` a ladder, `transfer` a sweep of rates), "
            "with the same --runs"
        )
    return read_json(Path(folder) / PLAN)
