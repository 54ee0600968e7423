"""Everything that stays the same while a stage runs, made once."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax

from jaxsrl.collect.collect import Collector
from jaxsrl.collect.learn import Learner
from jaxsrl.collect.rollout_log import Log, Writer, start_writer
from jaxsrl.collect.settings import BatchShapes
from jaxsrl.config.check_lengths import fitting
from jaxsrl.config.overrides import to_dict
from jaxsrl.config.run import Config, Stage, TaskData
from jaxsrl.data.large import MEASURED_WHOLE
from jaxsrl.data.tokenizer import Tokenizer
from jaxsrl.metrics import process_file
from jaxsrl.pace import Pace
from jaxsrl.policy import TRAIN, Policy, address
from jaxsrl.progress import Progress
from jaxsrl.report.watch import Watch
from jaxsrl.runs import Run
from jaxsrl.sharding import place_state
from jaxsrl.stages.device_loop import DeviceLoop, make_device_loop
from jaxsrl.stages.functions import make_collector, make_drawing, make_learner, stage_sampler
from jaxsrl.stages.material import Material, make_source
from jaxsrl.stages.sizes import device_rooms, evaluation_shapes, stage_shapes
from jaxsrl.stages.start import Base, hold_reference, make_start
from jaxsrl.types import Params, TrainState
from jaxsrl.update import init_state, optimizer


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What stays the same while a stage runs.

    Args:
      reference: the frozen reference's parameters of the model, on the device.
      evaluation: shapes of its calls.
      first_step: the attempt began with it; `pace`: what its steps and evaluations took; `warnings`: those said.
    """

    run: Run
    config: Config
    index: int
    splits: TaskData
    tokenizer: Tokenizer
    policy: Policy
    collector: Collector
    learner: Learner
    reference: Callable[[], Params]
    device_loop: DeviceLoop | None
    log: Log
    writer: Writer
    evaluation: BatchShapes
    stop: Callable[[], bool]
    first_step: int
    pace: Pace
    warnings: Watch

    @property
    def stage(self) -> Stage:
        return self.config.stages[self.index]


def make_parts(
    run: Run, config: Config, index: int, material: Material, splits: TaskData, stop: Callable[[], bool],
    base: Base | None = None,
) -> tuple[Parts, TrainState, Progress]:  # fmt: skip
    """A stage with its state and progress: as it starts, or as the run's checkpoint has them.

    Args:
      base: what lies under the adapters, where other runs have loaded it; None loads it.
    """
    stage, mesh = config.stages[index], material.placement.mesh
    policy = make_start(run, config, index, material, base)
    key = jax.random.fold_in(jax.random.key(config.seed_of(index)), index)
    state = init_state(policy.params, optimizer(stage.optimizer), key, stage.optimizer.spikes)
    state = place_state(mesh, state)
    reference = hold_reference(stage, policy)
    policy = replace(policy, params=None)  # those of a step are its state's
    progress = Progress(
        stage=stage.name, index=index, validation_pending=stage.steps > 0,
        level=stage.curriculum.first if stage.curriculum else 0.0,
        earlier_steps={earlier.name: earlier.steps for earlier in config.stages[:index]},
    )  # fmt: skip
    if run.record and run.record["index"] == index:
        state = run.checkpoints.restore(run.count, state)
        progress = replace(Progress.from_record(run.record), done=False)
    source = make_source(stage, splits, run, config.seed_of(index), index)
    shapes = stage_shapes(run, config, stage, source, material)
    if len(source.items) > MEASURED_WHOLE:
        source = replace(source, fits=fitting(config, stage, material.tokenizer, shapes))
    learner = make_learner(config, stage, material, policy, shapes)
    collector = make_collector(config, stage, material, policy, shapes, learner, source, reference)
    own = address(config.seed_of(index), index, TRAIN)
    rooms = device_rooms(stage, source, material.tokenizer, material.token_bytes)
    draw_with = make_drawing(material, stage_sampler(config, stage, policy), rooms)
    device_loop = make_device_loop(config, stage, material, policy, collector, learner, own, draw_with)
    evaluation = evaluation_shapes(config, stage, splits, material.tokenizer)
    writer = start_writer()  # the last thing that can fail: the loop closes it
    log = Log(
        journal=run.rollout_journal, writer=writer, name=process_file("rollouts", stage.name, jax.process_index()),
        problems=process_file("problems", stage.name, jax.process_index()), stage=stage.name, reader=collector.reader,
    )  # fmt: skip
    return Parts(
        run=run, config=config, index=index, splits=splits, tokenizer=material.tokenizer, policy=policy,
        collector=collector, learner=learner, reference=reference, device_loop=device_loop, log=log, writer=writer,
        evaluation=evaluation, stop=stop, first_step=progress.step, pace=Pace(),
        warnings=Watch(stage=stage.name, config=to_dict(config)),
    ), state, progress  # fmt: skip
