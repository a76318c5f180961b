"""Upload to the Hugging Face Hub: a private repository, one commit, and one sentence when something goes wrong.

Large files go up first and the commit comes last, so a push that breaks half way leaves the repository as it was; the
same command goes on, and what has arrived already is not sent again. The token comes from where huggingface_hub looks
for it (`HF_TOKEN`, `hf auth login`) and is never shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mriqa.hub.run import HubError
from mriqa.hub.upload_plan import INDEX_FILE, Upload
from mriqa.models import ADAPTER_FILE, HUB_NAME

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError


def check_repo(repo: str) -> str:
    """`repo` as the Hub takes it. Raises HubError where it is no user/name."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError:
        valid = False
    else:
        valid = HUB_NAME.fullmatch(repo) is not None
    if not valid:
        raise HubError(f"{repo!r} is no name of a repository; write it as user/name, for instance you/my-scorer.")
    return repo


def push(uploads: Sequence[Upload], repo: str, *, public: bool = False, message: str = "Upload by mriqa") -> str:
    """Create the repository where it is not there, upload everything in one commit, and return the commit's address.

    Raises HubError where there is no token, the Hub refuses or breaks off, the repository is public and `public` does
    not say so (or the reverse), or it holds weights that would mix with these.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    check_repo(repo)
    api = HfApi()
    if get_token() is None:
        raise HubError("There is no Hugging Face token; log in with `hf auth login`, or set HF_TOKEN.")
    with _one_sentence(repo):
        _open_repo(api, repo, public, {upload.name for upload in uploads})
        operations = [CommitOperationAdd(upload.name, _source(upload)) for upload in uploads]
        return str(api.create_commit(repo, operations, commit_message=message).commit_url)


def _source(upload: Upload) -> str | bytes:
    return upload.content if isinstance(upload.content, bytes) else str(upload.content)


def _open_repo(api: HfApi, repo: str, public: bool, names: set[str]) -> None:
    """Create the repository, or make sure that the one that is there is what the user believes it to be."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.model_info(repo)
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:
            raise
        api.create_repo(repo, private=not public)
        return
    if not info.private and not public:
        raise HubError(
            f"{repo} exists and is public, so everybody would see what is pushed: say --public if that is meant, or "
            "name another repository."
        )
    if info.private and public:
        raise HubError(f"{repo} exists and is private; leave out --public, or make it public in its settings first.")
    present = {file.rfilename for file in info.siblings or []}
    strangers = sorted(name for name in present - names if _is_weights(name))
    if strangers:
        raise HubError(
            f"{repo} holds other weights, which would mix with these ({strangers[0]}): delete them there, or name "
            "another repository."
        )


def _is_weights(name: str) -> bool:
    return "/" not in name and (name.endswith((".safetensors", ".bin")) or name in (ADAPTER_FILE, INDEX_FILE))


@contextmanager
def _one_sentence(repo: str) -> Iterator[None]:
    """Turn what huggingface_hub and the network raise into a HubError."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # The reply to a commit may be lost as well, so a broken connection does not say which of the two it is.
    after = "the repository is as it was or holds all of it, and the same command tries again"
    try:
        yield
    except HubError:
        raise
    except HfHubHTTPError as error:
        raise HubError(_refusal(repo, error)) from error
    except OfflineModeIsEnabled as error:
        raise HubError("The Hub is switched off here (HF_HUB_OFFLINE); unset that to push.") from error
    except httpx.HTTPError as error:
        raise HubError(f"The Hub cannot be reached ({type(error).__name__}); {after}.") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise HubError(f"The push to {repo} broke off ({reason}); {after}.") from error
    except (RuntimeError, ValueError) as error:  # uploads of large files, and metadata that the Hub's check refuses
        if "YAML" in str(error) or "metadata" in str(error):
            raise HubError(f"The Hub refuses the card's metadata: {_line(error)}.") from error
        raise HubError(f"The push to {repo} broke off while files went up ({_line(error)}); {after}.") from error


def _refusal(repo: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code
    if status == 401:
        return "The Hub does not accept the token; log in again with `hf auth login`, or renew HF_TOKEN."
    if status == 403:
        return f"The token may not write to {repo}; take one with write access, or a name under your own user."
    if status >= 500:
        return (
            f"The Hub has trouble of its own (HTTP {status}); nothing has changed in the repository, try again later."
        )
    return f"The Hub refuses the push to {repo} (HTTP {status}{_reason(error)})."


def _reason(error: HfHubHTTPError) -> str:
    return f": {error.server_message.splitlines()[0]}" if error.server_message else ""


def _line(error: Exception) -> str:
    """An error's text on one line, without a full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
