"""Before a training process imports transformers: what it will not need there.

transformers' Trainer, accelerate and peft import libraries wherever they are installed, used or
not: bitsandbytes (whose kernels call for torch's compiler), datasets with pandas, scipy,
scikit-learn and DeepSpeed. Together that is a third of the time until the first step.
"""

from __future__ import annotations

import sys
from pathlib import Path

from glmops.recipe import PretrainedBase, Train

_UNUSED = ("datasets", "sklearn")


def leave_out(settings: Train, root: Path) -> tuple[str, ...]:
    """Until this process ends, libraries that ``settings`` have no use for are not installed to it.

    A process calls this of itself, before it imports anything that imports transformers; what is
    imported already stays.

    Args:
        root: The project, which the path of a pretrained base is relative to.
    Returns:
        The names of these libraries.
    """
    names = (*_UNUSED, *(() if settings.launch.engine == "deepspeed" else ("deepspeed",)))
    if not _quantised(settings, root):
        names += ("bitsandbytes", "scipy")  # the one may use the other
    for name in names:
        # What Python itself takes for "there is no such module".
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    return names


def _quantised(settings: Train, root: Path) -> bool:
    """Whether weights are loaded in 8 or 4 bits: by the recipe, or because they were stored so."""
    if settings.quantization != "none":
        return True
    if not isinstance(settings.base, PretrainedBase):
        return False
    config = root / settings.base.path / "config.json"
    return config.is_file() and "quantization" in config.read_text("utf-8", errors="replace")
