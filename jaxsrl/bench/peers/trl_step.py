"""Optimizer steps of TRL's GRPOTrainer on the material of a folder; runs where TRL is installed, jaxsrl need not be.

python trl_step.py FOLDER CORE: one JSON line a step, with its processor seconds and the mean tokens of its
completions.
"""

import difflib
import json
import os
import sys
import time
from pathlib import Path


def main(folder: Path, core: int) -> None:
    os.sched_setaffinity(0, {core})
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from transformers.trainer_callback import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(1)
    sizes = json.loads((folder / "sizes.json").read_text())
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    cap, batch = sizes["completion_tokens"], sizes["prompts"] * sizes["group_size"]

    lengths = []

    def reward(prompts, completions, completion_ids, expert, **_):
        lengths[:] = map(len, completion_ids)
        if sizes["reward"] == "lower":
            return [sum("a" <= c <= "z" for c in text[:cap]) / cap for text in completions]
        return [difflib.SequenceMatcher(None, a, b, False).ratio() for a, b in zip(completions, expert, strict=True)]

    class Clock(TrainerCallback):
        last = time.process_time()

        def on_step_end(self, args, state, control, **_):
            now = time.process_time()
            cpu, tokens = round(now - self.last, 4), sum(lengths) / len(lengths)
            print(json.dumps({"step": state.global_step, "cpu": cpu, "tokens": tokens}), flush=True)
            self.last = now

    settings = GRPOConfig(
        per_device_train_batch_size=batch, num_generations=sizes["group_size"], max_completion_length=cap,
        max_steps=sizes["steps"], learning_rate=sizes["lr"], lr_scheduler_type="constant", save_strategy="no",
        report_to=[], use_cpu=True, bf16=False, beta=0.0, loss_type="grpo", output_dir=str(folder / "trl"),
        temperature=1.0, gradient_checkpointing=False, max_grad_norm=1.0, disable_tqdm=True,
        dataloader_pin_memory=False, shuffle_dataset=False,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32), reward_funcs=reward,
        args=settings, train_dataset=Dataset.from_list(rows), callbacks=[Clock()],
        processing_class=AutoTokenizer.from_pretrained(folder / "model", padding_side="left"),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
