"""What a reader should know before believing a run's numbers."""

from collections.abc import Iterator

from jaxsrl.report.names import last_part
from jaxsrl.report.read import Run, is_number

LAST = 10  # logged steps a share is averaged over
CONSTANT_FOR = 20  # logged steps of one and the same reward that are worth a word
BEHAVIOR_KL_HIGH = {"float32": 1e-4, "bfloat16": 1e-2}  # nats a token; sampler and learner are the same policy
KEPT_LOW, MALFORMED_HIGH, TRUNCATED_HIGH, SHORT_HIGH = 0.1, 0.5, 0.5, 0.5


def alarms(run: Run) -> list[str]:
    """Warnings, most basic first."""
    found = [complaint[0].upper() + complaint[1:] + "." for complaint in run.complaints]
    found += _not_there_yet(run)
    for stage in run.stages:
        found += [f"{stage}: {text}" for text in _of_stage(run, stage)]
    return found


def steps_done(run: Run, stage: str) -> int:
    """Optimizer steps of a stage that its metrics know; clocks may be ahead of them after a resume."""
    places = [*run.train.get(stage, ()), *run.evals.get(stage, ())]
    return max((line["step"] for line in places), default=0)


def steps_planned(run: Run, stage: str) -> int | None:
    planned = run.settings(stage).get("steps")
    return planned if isinstance(planned, int) and not isinstance(planned, bool) else None


def skipped(run: Run, stage: str) -> int:
    return int(max((v for _, v in run.values(stage, "update/skipped")), default=0))


def _not_there_yet(run: Run) -> Iterator[str]:
    if not run.train:
        yield "No training step has been logged yet."
    if not run.evals:
        yield "No eval yet: nothing here says how the policy does on held-out problems."
        return
    for stage in run.stages:
        if stage in run.train and stage not in run.evals:
            yield f"{stage}: no eval yet."


def _of_stage(run: Run, stage: str) -> Iterator[str]:
    planned, done = steps_planned(run, stage), steps_done(run, stage)
    if planned is not None and done < planned:
        yield f"at step {done} of {planned}." if done else f"not started, {planned} steps planned."
    if count := skipped(run, stage):
        yield f"{count} update{'s were' if count > 1 else ' was'} skipped because a gradient was not finite."
    lost = sum("loss" in line and not is_number(line["loss"]) for line in run.train.get(stage, ()))
    if lost:
        yield f"the loss has no value at {lost} logged step{'s' * (lost > 1)}: not finite, or every group was dropped."
    yield from _not_on_policy(run, stage)
    late = any(
        is_number(value) and value > 0
        for lines in (run.train.get(stage, ()), run.evals.get(stage, ()))
        for line in lines
        for name, value in line.items()
        if name.endswith("timeout_share")
    )
    if late:
        yield "comparisons of answers ran out of time or memory (timeout_share): the bits of this run are not promised."
    yield from _constant_reward(run, stage)
    yield from _shares(run, stage)


def _not_on_policy(run: Run, stage: str) -> Iterator[str]:
    """With one optimizer step a collection, the learner's log-probs are the sampler's up to rounding."""
    settings, model = run.settings(stage), run.config.get("model")
    if settings.get("updates_per_rollout", 1) != 1 or settings.get("minibatches", 1) != 1:
        return
    dtype = model.get("dtype") if isinstance(model, dict) else None
    bound = BEHAVIOR_KL_HIGH.get(dtype, BEHAVIOR_KL_HIGH["bfloat16"]) if isinstance(dtype, str) else 1e-2
    values = [(step, v) for step, v in run.values(stage, "pg/behavior_kl") if abs(v) > bound]
    if values:
        step, worst = max(values, key=lambda pair: abs(pair[1]))
        yield (
            f"sampler and learner give tokens other log-probs: pg/behavior_kl is {worst:.3g} at step {step}, and above "
            f"{bound:g} at {len(values)} logged step{'s' * (len(values) > 1)} with one optimizer step a collection. "
            "Rewards may still rise; do not believe this stage before the cause is found."
        )


def _constant_reward(run: Run, stage: str) -> Iterator[str]:
    values = [v for _, v in run.values(stage, "reward/mean")]
    same = 0
    for value in reversed(values):
        if abs(value - values[-1]) > 1e-9:
            break
        same += 1
    if same >= CONSTANT_FOR:
        yield f"the mean reward has been {values[-1]:.4g} for the last {same} logged steps: nothing moves it."


def _shares(run: Run, stage: str) -> Iterator[str]:
    names = sorted({name for line in run.train.get(stage, ()) for name in line})
    for name in names:
        share = _recent(run, stage, name)
        if share is None:
            continue
        over = f"over the last {min(LAST, len(run.values(stage, name)))} logged steps ({name})"
        if name == "collect/kept_share" and share < KEPT_LOW:
            yield f"only {share:.1%} of groups were kept {over}; most of the sampling is thrown away."
        elif "malformed" in last_part(name) and share > MALFORMED_HIGH:
            yield f"{share:.1%} of completions were malformed {over}; rewards mostly speak of form."
        elif name == "completion/truncated_share" and share > TRUNCATED_HIGH:
            yield f"{share:.1%} of completions ran to the cap {over}; raise max_new_tokens or look at what they say."
        elif name == "collect/short" and share > SHORT_HIGH:
            yield f"the refill bound was met at {share:.0%} of steps {over}; they had fewer prompts than asked for."


def _recent(run: Run, stage: str, name: str) -> float | None:
    values = [v for _, v in run.values(stage, name)][-LAST:]
    return sum(values) / len(values) if values else None
