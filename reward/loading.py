"""Find a reward: one of ours by name, or a user's own function as `path/to/file.py:function`."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from mriqa.choices import check_choice

from .checks import RewardError
from .format import FormatReward
from .margin import MarginReward
from .ranking import RankingReward
from .regression import RegressionReward

Reward = Callable[..., list[float]]
"""TRL's contract: f(completions, **columns) -> one float per completion."""

REWARDS: dict[str, type] = {
    "margin": MarginReward,
    "ranking": RankingReward,
    "regression": RegressionReward,
    "format": FormatReward,
}


def load(name: str, **options: Any) -> Reward:
    """A reward function with TRL's contract, `f(completions, **columns) -> list[float]`.

    Arguments:
        name: "margin", "ranking", "regression" or "format"; or "path/to/file.py:function" for a function of your own
            with the same contract. **That file is executed.** It must accept `**kwargs`, since TRL passes every column.
        options: of the reward: margin `scale`; regression `form`, `threshold`, `tau`; all `mode` and `answer_format`.
            For a function of your own, keyword arguments to bind.

    Returns:
        The callable, with a `__name__` to log it under. Several are combined by TRL: `reward_funcs=[…]` together with
        `GRPOConfig(reward_weights=[…])`.

    Raises:
        ChoiceError, RewardError: unknown name, option or option value; a file or function that is not there.

    Example:
        >>> reward = load("regression", form="smooth")
        >>> reward(completions=["<answer>3.00</answer>", "three"], mos=[3.0, 3.0])
        [1.0, 0.0]
    """
    if name.endswith(".py") or ".py:" in name:
        return _load_from_file(name, options)
    check_choice("reward (or path/to/file.py:function)", name, REWARDS)
    for option in options:
        check_choice(f"option of reward {name!r}", option, [f.name for f in fields(REWARDS[name]) if f.init])
    return REWARDS[name](**options)


def _load_from_file(spec: str, options: dict[str, Any]) -> Reward:
    file, _, function_name = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    path = Path(file).expanduser().resolve()
    if not function_name:
        raise RewardError(f"Reward {spec!r} names no function; write it as {file}:function.")
    if not path.is_file():
        raise RewardError(f"Reward {spec!r}: there is no file {path}.")

    module = _execute(path)
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    check_choice(f"function of {path}", function_name, functions)
    function = getattr(module, function_name)

    parameters = inspect.signature(function).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise RewardError(
            f"Reward {spec!r} must accept **kwargs: it is called with prompts, completions and every dataset column."
        )
    for option in options:
        check_choice(
            f"option of {function_name}", option, [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
        )
    return functools.update_wrapper(functools.partial(function, **options), function) if options else function


def _execute(path: Path) -> ModuleType:
    """Run a Python file as a module of its own name, so that files called alike do not meet."""
    name = f"mriqa_reward_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None and module_spec.loader is not None  # it is a .py file that exists
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
