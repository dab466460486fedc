"""One optimisation run by the Hugging Face Trainer: rows, schedule and model in, history out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from glmops.errors import RecipeError
from glmops.models.loading import quiet_transformers
from glmops.recipe import Schedule, Train
from glmops.train import ranks, zero
from glmops.train.batches import Collate, collate_for, loader_for, require_packable
from glmops.train.guards.before import Ready
from glmops.train.guards.during import Sound
from glmops.train.guards.room import require_room, rough_need
from glmops.train.history import History
from glmops.train.keeping import Keeping, is_over
from glmops.train.live import Live
from glmops.train.loss import measure, prompt_weight
from glmops.train.moments import put_weights
from glmops.train.order import Sampler, num_steps, plan_of
from glmops.train.points import Point
from glmops.train.rows import Rows
from glmops.train.shelf import Shelf
from glmops.train.trainer import TokenTrainer

_DECAYS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


@dataclass(frozen=True, slots=True)
class Phase:
    """One optimisation run of the stage: the base first, then the method on top of it.

    ``family`` is the contract's; ``scratch`` a folder for what must survive a kill; ``model_hash``
    tells the model apart from others that the same settings could be used on.
    """

    name: str
    rows: Rows
    dev: Rows
    schedule: Schedule
    family: str
    pad: int
    scratch: Path
    model_hash: str = ""


def fit(
    model: Any,
    phase: Phase,
    settings: Train,
    *,
    on_step: Callable[[], None] = lambda: None,
    callbacks: Sequence[TrainerCallback] = (),
) -> list[Point]:
    """Train ``model`` in place with AdamW by the schedule of ``phase``.

    A run of the same inputs that was interrupted goes on from its last whole checkpoint, as if it
    had not been. On the CPU one seed gives equal bytes every time, interrupted or not.

    Args:
        on_step: Called for each step, those of an interrupted run too.
    Raises:
        InputError, RecipeError: The run goes wrong: see guards/during.py.
        MachineError: Disk or memory cannot be enough, or turn out not to be.
        RecipeError: Rows are packed, and this model would not keep them apart; or the precision
            needs a GPU.
        KeyboardInterrupt: A signal asked the run to stop. What it did so far is saved.
    """
    if phase.rows.packed:
        require_packable(model)
    _require_checkpointing(model, settings)
    require_room(rough_need(model, settings), phase.scratch, model)
    arguments = _arguments(phase, settings)
    plan = plan_of(phase.rows.lengths, phase.schedule, settings.seed, arguments.world_size)
    arguments.max_steps = steps = num_steps(plan, phase.schedule)
    arguments.warmup_steps = _warmup(phase.schedule, steps)
    dev = collate_for(phase.family, pad=phase.pad, packed=phase.dev.packed)
    history = History(
        phase.name,
        lambda trained: measure(trained, phase.dev, dev),
        measure_every=settings.best.every_steps if settings.best else None,
        on_step=on_step,
    )
    live = Live(phase.name, phase.scratch, lambda: history.measured)
    sound = _sound(model, phase, settings, arguments, live.say)
    ready = Ready(phase.name, whole=not arguments.deepspeed)
    shelf = Shelf(phase, settings, history.points, live.say)
    keeping = Keeping(history.points, settings, lambda best: shelf.keep_best(model, best))
    trainer = TokenTrainer(
        model=model,
        args=arguments,
        train_dataset=phase.rows,
        callbacks=[ready, sound, live, history, *callbacks, keeping],
    )
    trainer.sound, trainer.live, trainer.say = sound, live, live.say
    trainer.save = lambda: shelf.keep(trainer)
    sampler = Sampler(plan, arguments.process_index)
    trainer.loader = loader_for(phase.rows, sampler, _collate(phase, settings))
    trainer.remove_callback(PrinterCallback)
    model.config.use_cache = False  # keys and values are of no use while training
    if ranks.count() > 1:  # Trainer has seeded all of them alike
        torch.manual_seed(settings.seed + ranks.number())
    if (start := shelf.newest()) is not None:
        history.go_on(start.points, start.step)
        trainer.start = start
        put_weights(model, start.folder)
    if start is None or not is_over(start.points, settings.best, steps):
        with keeping.listening(), quiet_transformers():  # GPT-2 asks for the mask it can do without
            trainer.train()
        if keeping.asked:
            live.say(f"train {phase.name}: stopped after step {history.step} of {steps}; saved.")
            raise KeyboardInterrupt
    if arguments.deepspeed:
        zero.close(trainer)
    if ranks.is_first() or not arguments.deepspeed:
        shelf.put_best(model)
    model.config.use_cache = True
    return history.points


def _require_checkpointing(model: Any, settings: Train) -> None:
    if settings.gradient_checkpointing and not model.supports_gradient_checkpointing:
        raise RecipeError(
            "train.gradient_checkpointing",
            "this architecture of transformers has none",
            got=model.config.model_type,
            do="Set it to false, and batch_size lower if memory is short.",
        )


def _collate(phase: Phase, settings: Train) -> Collate:
    weight = prompt_weight(phase.rows, settings.prompt_loss)
    packed = phase.rows.packed
    return collate_for(phase.family, pad=phase.pad, packed=packed, prompt_loss=weight)


def _arguments(phase: Phase, settings: Train) -> TrainingArguments:
    schedule, cuda = phase.schedule, torch.cuda.is_available()
    if settings.precision == "float16" and not cuda:
        do = "Use bfloat16 or float32 on this machine."
        raise RecipeError("train.precision", "training in float16 needs a GPU", do=do)
    return TrainingArguments(
        output_dir=str(phase.scratch),
        use_cpu=not cuda,
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        seed=settings.seed,
        data_seed=settings.seed,
        gradient_accumulation_steps=schedule.accumulation,
        activation_checkpointing=settings.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        torch_compile=settings.compile,
        learning_rate=schedule.learning_rate,
        weight_decay=schedule.weight_decay,
        max_grad_norm=schedule.max_gradient_norm,
        lr_scheduler_type=_DECAYS[schedule.decay],
        remove_unused_columns=False,
        # Trainer would otherwise average a lost step away and go on.
        logging_nan_inf_filter=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        deepspeed=zero.deepspeed_settings(settings),
        **ranks.trainer_arguments(),
    )


def _sound(
    model: Any,
    phase: Phase,
    settings: Train,
    arguments: TrainingArguments,
    say: Callable[[str], None],
) -> Sound:
    return Sound(
        phase.name,
        phase.rows,
        phase.scratch,
        # Prompts that are learnt, too, cost as much again, times their weight.
        uniform=math.log(model.config.vocab_size) * (1 + settings.prompt_loss),
        warmup=int(arguments.warmup_steps),
        say=say,
        ahead=not arguments.use_cpu,
        float16=arguments.fp16,
    )


def _warmup(schedule: Schedule, steps: int) -> int:
    if schedule.warmup_steps is not None:
        return schedule.warmup_steps
    return round(steps * (schedule.warmup_fraction or 0))
