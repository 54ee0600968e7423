"""What a reader should know before believing a run's numbers."""

from collections.abc import Iterator
from typing import NamedTuple

from jaxsrl.report.names import last_part
from jaxsrl.report.read import Run, is_number

LAST = 10  # logged steps a share is averaged over
CONSTANT_FOR = 20  # logged steps of one and the same reward that are worth a word
NOTHING_FOR = 3  # logged steps in which no group was kept
BEHAVIOR_KL_HIGH = {"float32": 1e-4, "bfloat16": 1e-2}  # nats a token; sampler and learner are the same policy
KEPT_LOW, MALFORMED_HIGH, TRUNCATED_HIGH, SHORT_HIGH = 0.1, 0.5, 0.5, 0.5


class Alarm(NamedTuple):
    """A warning; two of one kind say the same of other numbers."""

    kind: str
    text: str


def alarms(run: Run) -> list[str]:
    """Warnings, most basic first."""
    found = [complaint[0].upper() + complaint[1:] + "." for complaint in run.complaints]
    found += _not_there_yet(run)
    for stage in run.stages:
        found += [f"{stage}: {text}" for text in _of_stage(run, stage)]
        found += [f"{stage}: {alarm.text}" for alarm in while_training(run, stage)]
    return found


def while_training(run: Run, stage: str) -> Iterator[Alarm]:
    """What the lines of training say, of a run that goes on too."""
    if count := skipped(run, stage):
        text = f"{count} update{'s were' if count > 1 else ' was'} skipped because a gradient was not finite."
        yield Alarm("skipped", text)
    yield from _not_on_policy(run, stage)
    yield from _nothing_kept(run, stage)
    yield from _constant_reward(run, stage)
    yield from _shares(run, stage)


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
    lost = sum("loss" in line and not is_number(line["loss"]) for line in run.train.get(stage, ()))
    if lost:
        yield f"the loss has no value at {lost} logged step{'s' * (lost > 1)}: not finite, or every group was dropped."
    late = any(
        is_number(value) and value > 0
        for lines in (run.train.get(stage, ()), run.evals.get(stage, ()))
        for line in lines
        for name, value in line.items()
        if name.endswith("timeout_share")
    )
    if late:
        yield "comparisons of answers ran out of time or memory (timeout_share): the bits of this run are not promised."


def _not_on_policy(run: Run, stage: str) -> Iterator[Alarm]:
    """With one optimizer step a collection, the learner's log-probs are the sampler's up to rounding."""
    settings, model = run.settings(stage), run.config.get("model")
    if settings.get("updates_per_rollout", 1) != 1 or settings.get("minibatches", 1) != 1:
        return
    dtype = model.get("dtype") if isinstance(model, dict) else None
    bound = BEHAVIOR_KL_HIGH.get(dtype, BEHAVIOR_KL_HIGH["bfloat16"]) if isinstance(dtype, str) else 1e-2
    values = [(step, v) for step, v in run.values(stage, "pg/behavior_kl") if abs(v) > bound]
    if values:
        step, worst = max(values, key=lambda pair: abs(pair[1]))
        text = (
            f"sampler and learner give tokens other log-probs: pg/behavior_kl is {worst:.3g} at step {step}, and above "
            f"{bound:g} at {len(values)} logged step{'s' * (len(values) > 1)} with one optimizer step a collection. "
            "Rewards may still rise; do not believe this stage before the cause is found."
        )
        yield Alarm("off policy", text)


def _nothing_kept(run: Run, stage: str) -> Iterator[Alarm]:
    """All groups of the last steps dropped, as where every rollout has the same reward."""
    kept, count = [v for _, v in run.values(stage, "collect/kept_share")], 0
    while count < len(kept) and kept[-1 - count] == 0:
        count += 1
    if count >= NOTHING_FOR:
        rewards = [v for _, v in run.values(stage, "reward/mean")][-1:]
        mean = f", mean reward {rewards[0]:.3g}" if rewards else ""
        text = f"no group was kept at the last {count} logged steps{mean}: nothing is learned; look at the completions."
        yield Alarm("nothing kept", text)


def _constant_reward(run: Run, stage: str) -> Iterator[Alarm]:
    values = [v for _, v in run.values(stage, "reward/mean")]
    same = 0
    for value in reversed(values):
        if abs(value - values[-1]) > 1e-9:
            break
        same += 1
    if same >= CONSTANT_FOR:
        text = f"the mean reward has been {values[-1]:.4g} for the last {same} logged steps: nothing moves it."
        yield Alarm("constant reward", text)


def _shares(run: Run, stage: str) -> Iterator[Alarm]:
    names = sorted({name for line in run.train.get(stage, ()) for name in line})
    for name in names:
        share = _recent(run, stage, name)
        if share is None:
            continue
        over = f"over the last {min(LAST, len(run.values(stage, name)))} logged steps ({name})"
        if name == "collect/kept_share" and share < KEPT_LOW:
            text = f"only {share:.1%} of groups were kept {over}; most of the sampling is thrown away."
            yield Alarm(name, text)
        elif "malformed" in last_part(name) and share > MALFORMED_HIGH:
            yield Alarm(name, f"{share:.1%} of completions were malformed {over}; rewards mostly speak of form.")
        elif name == "completion/truncated_share" and share > TRUNCATED_HIGH:
            text = f"{share:.1%} of completions ran to the cap {over}; raise max_new_tokens or look at what they say."
            yield Alarm(name, text)
        elif name == "collect/short" and share > SHORT_HIGH:
            text = f"the refill bound was met at {share:.0%} of steps {over}; they had fewer prompts than asked for."
            yield Alarm(name, text)


def _recent(run: Run, stage: str, name: str) -> float | None:
    values = [v for _, v in run.values(stage, name)][-LAST:]
    return sum(values) / len(values) if values else None
