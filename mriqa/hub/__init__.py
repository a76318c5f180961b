"""Publish a training run: a model card written from what the run recorded, and a push to the Hugging Face Hub.

run = read_run("outputs/demo")
text = write_card(run, "you/your-model")
files = plan_upload(run, text)           # what would be uploaded, and what is left out
push(files.uploads, "you/your-model")    # private, in one commit
"""

from mriqa.hub.model_card import CardOptions, write_card
from mriqa.hub.publishing import check_repo, push
from mriqa.hub.run import HubError, Run, read_run
from mriqa.hub.upload_plan import Plan, Upload, merged_model, plan_upload

__all__ = [
    "CardOptions",
    "HubError",
    "Plan",
    "Run",
    "Upload",
    "check_repo",
    "merged_model",
    "plan_upload",
    "push",
    "read_run",
    "write_card",
]
