"""The train section: a base, a method on top of it, a schedule, and what guards the run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from glmops.recipe.section import Fraction, Positive, Section

# CPU threads of torch. Part of the recipe, because another number rounds sums in another order.
# A small model is fastest on one: more of them mostly wait for each other.
Threads = Positive

Rate = Annotated[float, Field(gt=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Schedule(Section):
    """One optimisation run: AdamW, linear warm-up, then the decay.

    A step sees ``processes x accumulation x batch_size`` rows (packs, where rows are packed), or
    ``batch_tokens`` in place of ``batch_size``: rows of like length, up to so many tokens with
    their padding.
    """

    epochs: Rate | None = None
    max_steps: Positive | None = None
    batch_size: Positive | None = None
    batch_tokens: Positive | None = None
    accumulation: Positive = 1
    learning_rate: Rate
    warmup_fraction: Fraction | None = None
    warmup_steps: Annotated[int, Field(ge=0)] | None = None
    decay: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: Annotated[float, Field(ge=0)]
    max_gradient_norm: Rate = 1.0

    @model_validator(mode="after")
    def _one_of_each(self) -> Schedule:
        pairs = (
            ("epochs", "max_steps"),
            ("batch_size", "batch_tokens"),
            ("warmup_fraction", "warmup_steps"),
        )
        for one, other in pairs:
            given = [name for name in (one, other) if getattr(self, name) is not None]
            if len(given) != 1:
                raise ValueError(
                    f"needs either {one} or {other}, got {' and '.join(given) or 'neither'}"
                )
        return self


class ScratchBase(Section):
    """A small model that the train stage makes. With ``schedule`` it first learns the base text."""

    method: Literal["scratch"]
    architecture: Literal["glm", "chatglm", "gpt1", "gpt2"] = "glm"
    hidden_size: Positive
    intermediate_size: Positive
    layers: Positive
    heads: Positive
    kv_heads: Positive
    schedule: Schedule | None = None
    """None: the base stays as random as it was made, or ``train.method`` is scratch."""

    @model_validator(mode="after")
    def _heads_divide(self) -> ScratchBase:
        if self.hidden_size % self.heads or self.heads % self.kv_heads:
            raise ValueError(
                f"heads must divide hidden_size and kv_heads must divide heads, got hidden_size "
                f"{self.hidden_size}, heads {self.heads}, kv_heads {self.kv_heads}"
            )
        return self


class PretrainedBase(Section):
    """A checkpoint folder, native or as ChatGLM was published, relative to the project."""

    method: Literal["pretrained"]
    path: str = Field(min_length=1)
    sha256: Sha256
    """Of its weights and config (write 64 zeros, and the stage says what belongs there)."""


Base = Annotated[ScratchBase | PretrainedBase, Field(discriminator="method")]


class Lora(Section):
    rank: Positive
    alpha: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    targets: tuple[str, ...] = Field(min_length=1)


class Prefix(Section):
    """P-tuning v2, as it was published."""

    length: Positive
    projection: bool
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1


class Launch(Section):
    """How many processes train together, on this machine and others."""

    processes: Positive = 1
    """On each node: one for each of its GPUs."""
    nodes: Positive = 1
    engine: Literal["ddp", "deepspeed"] = "ddp"
    zero: Literal[1, 2, 3] | None = None
    offload: bool = False
    """The optimiser's state in the host's memory."""

    def alone(self) -> Launch:
        """The same engine in one process."""
        return self.model_copy(update={"processes": 1, "nodes": 1})

    @model_validator(mode="after")
    def _zero_is_deepspeed(self) -> Launch:
        if (self.engine == "deepspeed") != (self.zero is not None):
            raise ValueError("engine: deepspeed needs zero: 1, 2 or 3, and ddp has none")
        if self.offload and self.engine != "deepspeed":
            raise ValueError("offload needs engine: deepspeed")
        return self


class Checkpoints(Section):
    """What a killed run goes on from."""

    every_steps: Positive = 500
    keep: Positive = 2


class Best(Section):
    """Which moment of the run is kept, and when to stop waiting for a better one."""

    metric: Literal["dev-loss", "dev-exact"]
    """dev-exact: the share of dev rows that greedy decoding answers exactly."""
    every_steps: Positive | None = None
    """Measured this often; None: where an epoch ends."""
    patience: Positive | None = None
    """Stop after so many measurements without a better one."""


class Train(Section):
    seed: int
    threads: Threads
    base: Base
    method: Literal["lora", "prefix", "full", "scratch"]
    lora: Lora | None = None
    prefix: Prefix | None = None
    quantization: Literal["none", "int8", "nf4"] = "none"
    """Of the frozen base while an adapter is trained on it."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the forward pass. Trained weights are float32."""
    gradient_checkpointing: bool = False
    prompt_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the prompts' mean loss beside that of the answers (GPT-1: language model plus
    classification). 0: prompts are not learnt."""
    schedule: Schedule
    best: Best | None = None
    """None: the last moment is kept."""
    checkpoints: Checkpoints = Checkpoints()
    launch: Launch = Launch()
    compile: bool = False
    export: Literal["merged", "adapter"]
    """merged: full-precision weights, which are what evaluate scores. adapter: beside its base."""

    @model_validator(mode="after")
    def _method_has_its_settings(self) -> Train:
        for name in ("lora", "prefix"):
            if (self.method == name) != (getattr(self, name) is not None):
                raise ValueError(
                    f"method: {name} needs the section {name}, and no other method has one"
                )
        return self

    @model_validator(mode="after")
    def _method_fits_the_rest(self) -> Train:
        if self.method == "scratch" and isinstance(self.base, PretrainedBase):
            raise ValueError("method: scratch needs base.method: scratch, got pretrained")
        if self.method == "scratch" and getattr(self.base, "schedule", None) is not None:
            raise ValueError("method: scratch trains the base itself; remove base.schedule")
        adapter = self.method in ("lora", "prefix")
        if self.quantization != "none" and not adapter:
            raise ValueError(f"quantization needs method: lora or prefix, got {self.method}")
        if self.method == "prefix" and getattr(self.base, "architecture", "") == "gpt1":
            raise ValueError("GPT-1's attention cannot be given a prefix; use method: lora or full")
        if self.method == "prefix" and self.export == "merged":
            raise ValueError("a prefix cannot be merged into weights; use export: adapter")
        if not adapter and self.export == "adapter":
            raise ValueError(f"method: {self.method} makes no adapter; use export: merged")
        if adapter and self.launch.zero == 3 and self.quantization != "none":
            raise ValueError(
                "ZeRO-3 cannot split quantised weights; use zero: 2 or no quantization"
            )
        return self
