"""How to use a published model: code for `mriqa`, transformers and vLLM that runs as it stands in the card."""

from __future__ import annotations

from mriqa.answers import HIGHEST, LOWEST, AnswerFormat, load_format
from mriqa.hub.run import Origin, Run

FEW_TOKENS, MANY_TOKENS = 32, 512


def usage(run: Run, origin: Origin, repo: str, as_adapter: bool) -> str:
    """The section "How to use it"."""
    return "\n\n".join(["## How to use it", _mriqa(repo), _transformers(run, origin, repo, as_adapter), _vllm(
        run, origin, repo, as_adapter
    )])  # fmt: skip


def _mriqa(repo: str) -> str:
    return f"""### mriqa

The score as it was evaluated: prompt, views and readout come with the model.

```
mriqa score photo.jpg --model {repo}
```

```python
from mriqa import Scorer

scorer = Scorer.from_pretrained("{repo}")
print(scorer.score(["photo.jpg"]))  # score 1..5, its spread, and an error where there is no score
```"""


def _transformers(run: Run, origin: Origin, repo: str, as_adapter: bool) -> str:
    form = run.answer_format
    register = "import mriqa.embedded\n\nmriqa.embedded.register()  # its vision tower is not part of transformers\n"
    load = f'model = AutoModelForImageTextToText.from_pretrained("{repo}")'
    imports = "from transformers import AutoModelForImageTextToText, AutoProcessor"
    if as_adapter:
        imports = f"from peft import PeftModel\n{imports}"
        load = (
            f'base = AutoModelForImageTextToText.from_pretrained("{origin.hub_name}")\n'
            f'model = PeftModel.from_pretrained(base, "{repo}")'
        )
    system = (
        f'    {{"role": "system", "content": [{{"type": "text", "text": {form.system!r}}}]}},\n' if form.system else ""
    )
    tokens = MANY_TOKENS if form.thinks else FEW_TOKENS
    scale = "" if (form.low, form.high) == (LOWEST, HIGHEST) else f"  # from {form.low:g} to {form.high:g}"
    views = (
        f" It looks at the whole picture, while `mriqa` averages over the views it was set up with ({_views(run)})."
        if run.views
        else ""
    )
    return f"""### transformers

One answer in plain text, the model's most likely one.{views}

```python
import re

from PIL import Image
{imports}
{register if run.is_embedded else ""}
{load}
processor = AutoProcessor.from_pretrained("{repo}")
messages = [
{system}    {{"role": "user", "content": [
        {{"type": "image", "image": Image.open("photo.jpg").convert("RGB")}},
        {{"type": "text", "text": {form.user!r}}},
    ]}},
]
inputs = processor.apply_chat_template(
    messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
)
output = model.generate(**inputs, max_new_tokens={tokens}, do_sample=False)
answer = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
match = re.fullmatch({form.pattern!r}, answer.strip())
score = float(match["score"]) if match else None{scale}
print(score)
```"""


def _vllm(run: Run, origin: Origin, repo: str, as_adapter: bool) -> str:
    if run.is_embedded:
        return "### vLLM\n\nvLLM cannot load this model: its vision tower is `mriqa`'s own."
    served = _scored_by_server(run, "quality" if as_adapter else repo)
    if as_adapter:
        rank = run.settings.get("lora_r") or 64
        serve = f"vllm serve {origin.hub_name} --enable-lora --max-lora-rank {rank} --lora-modules quality={repo}"
        return (
            "### vLLM\n\nThrough vLLM's own LoRA support, where it has that for this base model:\n\n"
            f"```\n{serve}\n{served}```\n\nMerged weights (`mriqa push --merge`) need none."
        )
    text = f"### vLLM\n\n```\nmriqa score photos/ --backend vllm --model {repo} --out scores.csv\n```"
    return f"{text}\n\nor from a server:\n\n```\nvllm serve {repo}\n{served}```" if served else text


def _scored_by_server(run: Run, name: str) -> str:
    """The command that scores with a server; none where it has no options for this model's prompt or views."""
    form = run.answer_format
    if run.views or not is_bundled(form):
        return ""
    server = f"--backend server --server http://127.0.0.1:8000/v1 --answer-format {form.name}"
    return f"mriqa score photos/ {server} --model {name} --out scores.csv\n"


def is_bundled(form: AnswerFormat) -> bool:
    """Whether the format's name alone brings it back."""
    try:
        return load_format(form.name) == form
    except ValueError:
        return False


def _views(run: Run) -> str:
    return ", ".join(f"{name} {value}" for name, value in (run.views or {}).items() if value is not None)
