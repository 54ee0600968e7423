"""Optimizer steps of Tunix's GRPOLearner on the material of a folder; runs where Tunix is installed.

python tunix_step.py FOLDER CORE: one JSON line a step, with its processor seconds, from one call of the reward to the
next, and the mean tokens of the completions in between.
"""

import difflib
import json
import os
import sys
import time
from pathlib import Path


def main(folder: Path, core: int) -> None:
    os.sched_setaffinity(0, {core})
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax
    from transformers import AutoTokenizer
    from tunix.models.qwen2 import model as qwen2
    from tunix.models.qwen2 import params as qwen2_params
    from tunix.rl import rl_cluster
    from tunix.rl.grpo import grpo_learner
    from tunix.rl.rollout import base_rollout

    sizes = json.loads((folder / "sizes.json").read_text())
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    model, cap, count, at_once = (sizes[name] for name in ("model", "completion_tokens", "prompts", "tunix_prompts"))
    longest = max(len(row["prompt"].encode()) for row in rows)
    clock, lengths = {"last": time.process_time(), "step": 0}, []

    def reward(prompts, completions, expert, **_):
        now = time.process_time()
        if clock["step"]:
            cpu, tokens = round(now - clock["last"], 4), sum(lengths) / len(lengths)
            print(json.dumps({"step": clock["step"], "cpu": cpu, "tokens": tokens}), flush=True)
        clock.update(last=now, step=clock["step"] + 1)
        if sizes["reward"] == "lower":
            return [sum("a" <= c <= "z" for c in text[:cap]) / cap for text in completions]
        return [difflib.SequenceMatcher(None, a, b, False).ratio() for a, b in zip(completions, expert, strict=True)]

    def batches():
        for step in range(sizes["steps"]):
            some = [rows[(step * count + i) % len(rows)] for i in range(count)]
            yield {"prompts": np.array([r["prompt"] for r in some]), "expert": np.array([r["expert"] for r in some])}

    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    config = qwen2.ModelConfig(
        num_layers=model["layers"], vocab_size=model["vocab"], embed_dim=model["width"], hidden_dim=model["mlp_width"],
        num_heads=model["heads"], head_dim=model["head_width"], num_kv_heads=model["kv_heads"],
        rope_theta=model["rope_base"], norm_eps=model["rms_epsilon"], use_tied_embedding=True,
    )  # fmt: skip
    with mesh:  # its optimizer reads this context; that of jax.set_mesh it refuses
        actor = qwen2_params.create_model_from_safe_tensors(str(folder / "model"), config, mesh, dtype=jnp.float32)
        training = rl_cluster.RLTrainingConfig(
            actor_optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(sizes["lr"], weight_decay=0.0)),
            eval_every_n_steps=10**9, max_steps=sizes["steps"], mini_batch_size=count, train_micro_batch_size=at_once,
            rollout_micro_batch_size=count, compute_logps_micro_batch_size=count, data_sharding_axis=("fsdp",),
        )  # fmt: skip
        rollout = base_rollout.RolloutConfig(
            max_tokens_to_generate=cap, max_prompt_length=longest, temperature=1.0, top_p=1.0, top_k=None,
            kv_cache_size=longest + cap + 16,
        )  # fmt: skip
        roles = (rl_cluster.Role.ACTOR, rl_cluster.Role.REFERENCE, rl_cluster.Role.ROLLOUT)
        cluster = rl_cluster.RLCluster(
            actor=actor, reference=None, tokenizer=AutoTokenizer.from_pretrained(folder / "model"),
            cluster_config=rl_cluster.ClusterConfig(
                role_to_mesh=dict.fromkeys(roles, mesh), training_config=training, rollout_config=rollout
            ),
        )  # fmt: skip
        generate = cluster.generate

        def counted(*arguments, **settings):
            made = generate(*arguments, **settings)
            lengths[:] = map(len, made.tokens)
            return made

        cluster.generate = counted
        algorithm = grpo_learner.GRPOConfig(
            num_generations=sizes["group_size"], num_iterations=1, beta=0.0, epsilon=0.2
        )
        learner = grpo_learner.GRPOLearner(rl_cluster=cluster, reward_fns=reward, algo_config=algorithm)
        learner.train(batches())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
