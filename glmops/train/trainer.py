"""The Hugging Face Trainer over our own batches, which can go on where an earlier run ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer

from glmops.train import ranks
from glmops.train.batches import Batch
from glmops.train.guards.during import Sound
from glmops.train.guards.room import halved, out_of_memory
from glmops.train.live import Live
from glmops.train.loss import num_learnt, token_losses
from glmops.train.moments import Moment, put_generators, put_moment


class TokenTrainer(Trainer):
    """A loss that weighs every learnt token alike, and steps that fit into a GPU's memory.

    Attributes:
        loader: The batches of this process.
        start: Where to go on; None: at the beginning.
        save: Writes a checkpoint of this very moment.
        say: Takes a line for people.
        sound: Sees the losses and gradients of every step.
        live: Counts its tokens.
    """

    loader: DataLoader[Any]
    sound: Sound
    live: Live
    start: Moment | None = None
    save: Callable[[], None]
    say: Callable[[str], None]
    _most_tokens: float = math.inf
    """Padded tokens that a forward may have; more went beyond the GPU's memory."""
    _step_batches: list[Batch]

    def get_train_dataloader(self) -> DataLoader[Any]:
        return self.loader

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # nobody asks, and counting walks over all modules in every step

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> int:
        """Learnt tokens of one step, over all its forwards and processes."""
        self._step_batches = batch_samples
        self.live.on_step(batch_samples)
        count = torch.tensor(num_learnt(batch_samples), device=device)
        if self.args.world_size > 1:
            count = self.accelerator.gather(count).sum()
        return int(count)

    def _clip_grad_norm(self, model: Any) -> Any:
        if self.is_deepspeed_enabled:
            return super()._clip_grad_norm(model)
        # The optimiser has what is trained at hand; Trainer looks through the whole model for it.
        self.accelerator.unscale_gradients()
        trained = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        return torch.nn.utils.clip_grad_norm_(trained, self.args.max_grad_norm)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self.sound.on_gradient(norm)
        return norm

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: int | None = None,
    ) -> Any:
        assert num_items_in_batch is not None
        labels_BK, weights_BK = inputs.pop("labels"), inputs.pop("weights", None)
        rows = inputs.pop("rows")
        outputs = model(**inputs, use_cache=False)
        losses_BK = token_losses(outputs.logits, labels_BK, weights_BK)
        # Gradients are averaged over the processes: the sum over all of them is what is meant.
        loss = losses_BK.sum() / num_items_in_batch * self.args.world_size
        self.sound.on_forward(rows, losses_BK, inputs["logits_to_keep"], loss)
        return (loss, outputs) if return_outputs else loss

    # Memory: a loss is a sum over tokens, so the parts of a forward add up to it.

    def training_step(
        self, model: Any, inputs: Batch, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """One forward and backward, in parts where the whole went beyond the GPU's memory.

        Raises:
            MachineError: A single row does, or one process of several ran out of memory: the
                others would wait for it.
        """
        before = next(i for i, batch in enumerate(self._step_batches) if batch is inputs)
        try:
            return self._in_parts(model, inputs, num_items_in_batch)
        except torch.OutOfMemoryError:
            self._halve(inputs)
        # Out of the except block, whose traceback holds on to the activations. A backward that
        # broke off has left a part of its gradients: the forwards of this step are done again.
        while True:
            try:
                model.zero_grad()
                self.sound.forget()
                torch.cuda.empty_cache()
                for batch in self._step_batches[:before]:
                    self._in_parts(model, batch, num_items_in_batch)
                return self._in_parts(model, inputs, num_items_in_batch)
            except torch.OutOfMemoryError:
                self._halve(inputs)

    def _in_parts(self, model: Any, inputs: Batch, num_items: Any) -> torch.Tensor:
        losses = [
            self._forward_backward(model, part, num_items)
            for part in parts(inputs, self._most_tokens)
        ]
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0]

    def _forward_backward(self, model: Any, inputs: Batch, num_items: Any) -> torch.Tensor:
        """What Trainer does, but for the walk over all modules to put them into training mode: with
        an adapter on a small model that takes as long as a twentieth of the step."""
        if not model.training:
            model.train()
        inputs = self._prepare_inputs(inputs)
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs, num_items_in_batch=num_items)
        # The loss is divided by the tokens of the step already, and not by its forwards once more.
        engine = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
        self.accelerator.backward(loss, **engine)
        return loss.detach()

    def _halve(self, inputs: Batch) -> None:
        part = next(parts(inputs, self._most_tokens))["input_ids"]
        rows, tokens = part.shape
        if rows == 1 or self.args.world_size > 1:
            raise out_of_memory(_rows(rows), tokens, self.args.device) from None
        self._most_tokens = rows * tokens // 2
        smaller = next(parts(inputs, self._most_tokens))["input_ids"].shape[0]
        times = math.ceil(inputs["input_ids"].shape[0] / smaller)
        accumulation = self.args.gradient_accumulation_steps * times
        self.say(halved(_rows(rows), _rows(smaller), accumulation))

    # Going on: Trainer's own way reads a folder of its own making, and one for each engine.

    def _init_training_state(
        self, max_steps: int, steps_in_epoch: int, *rest: Any
    ) -> tuple[int, int]:
        done: tuple[int, int] = super()._init_training_state(max_steps, steps_in_epoch, *rest)
        if self.start is None:
            return done
        self.state.global_step = self.start.step
        epochs, steps = divmod(self.start.step, steps_in_epoch)
        return epochs, steps * self.args.gradient_accumulation_steps

    def _prepare_for_training(self, *arguments: Any) -> Any:
        prepared = super()._prepare_for_training(*arguments)
        if self.start is not None:
            put_moment(self, self.start)
        return prepared

    def _run_epoch(self, **arguments: Any) -> None:
        if self.start is None or arguments["epoch"] > arguments["epochs_trained"]:
            super()._run_epoch(**arguments)
            return
        self._tr_loss.fill_(self.start.unlogged)
        self._globalstep_last_logged = self.start.logged
        super()._run_epoch(**{**arguments, "resume_from_checkpoint": str(self.start.folder)})

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self.start is not None:
            put_generators(self.start, ranks.number(), self.args.seed)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.sound.look()
        self.save()


def parts(batch: Batch, most_tokens: float) -> Iterator[Batch]:
    """The batch, cut between rows so that a part has at most ``most_tokens``, or a single row."""
    rows, width = batch["input_ids"].shape
    size = rows if rows * width <= most_tokens else max(1, int(most_tokens // width))
    for start in range(0, rows, size):
        yield {
            # What has one axis belongs to the columns of all rows; the rows themselves have none.
            name: value[start : start + size] if getattr(value, "ndim", 2) > 1 else value
            for name, value in batch.items()
        }


def _rows(count: int) -> str:
    return f"{count} row{'s' * (count != 1)}"
