"""Find a reward: one of ours by name, or a user's own function as `path/to/file.py:function`."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from mriqa.answers import AnswerFormat
from mriqa.choices import check_choice

from .comparison import RewardError, resolve_format
from .format import FormatReward
from .margin import margin_reward
from .ranking import ranking_reward
from .regression import regression_reward
from .score_reward import SCORES, ScoreReward, option_defaults

Reward = Callable[..., list[float]]
"""TRL's contract: f(completions, **columns) -> one float per completion."""

REWARDS: dict[str, Callable[..., Any]] = {
    "margin": margin_reward,
    "ranking": ranking_reward,
    "regression": regression_reward,
    "format": FormatReward,
}
"""Functions of scores (`score_reward.py`) by name; and a class, made from an answer format, that judges completions."""


READING = ("mode", "answer_format")
"""Options of every reward that reads answers; see `load`."""


def load(name: str, **options: Any) -> Reward:
    """A reward function with TRL's contract, `f(completions, **columns) -> list[float]`.

    Arguments:
        name: "margin", "ranking", "regression" or "format"; or "path/to/file.py:function" for a function of your own,
            of scores (see `score_reward.py`) or with TRL's contract. **That file is executed.** One with TRL's contract
            must accept `**kwargs`, since TRL passes every column.
        options: of the reward: margin `scale`; regression `form`, `threshold`, `tau`; for a function of your own, its
            keyword arguments. All of ours and all functions of scores also take `mode`, the prompt mode whose answers
            are read, "non_thinking" (`<answer>3.52</answer>`, the default) or "thinking"
            (`<thinking>…</thinking><answer>{"rating": 3.52}</answer>`), and `answer_format`, another format (object,
            name or YAML path) that goes before `mode`. A function with TRL's contract gets `answer_format` if it has
            such a parameter.

    Returns:
        The callable, with a `__name__` to log it under. Several are combined by TRL: `reward_funcs=[…]` together with
        `GRPOConfig(reward_weights=[…])`.

    Raises:
        RewardError: unknown name, option or option value; a file or function that is not there, or of neither form.

    Example:
        >>> reward = load("regression", form="smooth")
        >>> reward(completions=["<answer>3.00</answer>", "three"], mos=[3.0, 3.0])
        [1.0, 0.0]
    """
    if name.endswith(".py") or ".py:" in name:
        return _load_own(name, options)
    check_choice("reward (or path/to/file.py:function)", name, REWARDS, RewardError)
    function = REWARDS[name]
    if isinstance(function, type):
        answer_format, _ = _split_options(name, options, [])
        return function(answer_format)
    defaults = option_defaults(function)
    answer_format, options = _split_options(name, options, defaults)
    variant = [value for value in {**defaults, **options}.values() if isinstance(value, str)]
    reward = ScoreReward(function, answer_format, options, "_".join([name, *variant]))
    reward(completions=[], mos=[], image_id=[])  # refuses an option's value now, and not at the first step
    return reward


def _load_own(spec: str, options: dict[str, Any]) -> Reward:
    """A user's function, of scores or with TRL's contract: which of the two, its parameters' names say."""
    function = _find_function(spec)
    parameters = inspect.signature(function).parameters
    if next(iter(parameters), None) == SCORES:
        answer_format, options = _split_options(spec, options, option_defaults(function))
        return ScoreReward(function, answer_format, options, spec.rpartition(":")[2])
    if "completions" not in parameters:
        raise RewardError(
            f"Reward {spec!r} must be a function of scores, `def f({SCORES}, mos_N, std_N)`, or have TRL's contract, "
            f"`def f(completions, **columns)`, but its parameters are ({', '.join(parameters)})."
        )
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        raise RewardError(
            f"Reward {spec!r} must accept **kwargs: it is called with prompts, completions and every dataset column."
        )
    named = [p.name for p in parameters.values() if p.kind is not p.VAR_KEYWORD]
    if "answer_format" not in named:  # the recipe gives it to every reward
        options = {name: value for name, value in options.items() if name != "answer_format"}
    _check_options(spec, options, named)
    return functools.update_wrapper(functools.partial(function, **options), function) if options else function


def _split_options(reward: str, options: dict[str, Any], own: Iterable[str]) -> tuple[AnswerFormat, dict[str, Any]]:
    """The format of the answers to read, and the options that are the function's `own`."""
    reading = {name: value for name, value in options.items() if name in READING and name not in own}
    others = {name: value for name, value in options.items() if name not in reading}
    _check_options(reward, others, [*own, *READING])
    return resolve_format(**reading), others


def _check_options(reward: str, options: Iterable[str], known: Iterable[str]) -> None:
    for option in options:
        check_choice(f"option of reward {reward!r}", option, known, RewardError)


def _find_function(spec: str) -> Callable[..., Any]:
    file, _, function_name = spec.rpartition(":") if ".py:" in spec else (spec, "", "")
    path = Path(file).expanduser().resolve()
    if not function_name:
        raise RewardError(f"Reward {spec!r} names no function; write it as {file}:function.")
    if not path.is_file():
        raise RewardError(f"Reward {spec!r}: there is no file {path}.")
    module = _execute(path)
    functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    check_choice(f"function of {path}", function_name, functions, RewardError)
    return getattr(module, function_name)


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
