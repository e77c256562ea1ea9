"""What a job gets to know of the environment: an allow-list, and no secret that it does not need.

Secrets travel only in the environment of the processes, named in the spec, never in a file; their values are
blotted out of the log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

# fmt: off
_NAMES = frozenset([
    "PATH", "HOME", "USER", "LOGNAME", "USERNAME", "USERPROFILE", "LANG", "LANGUAGE", "TZ", "SHELL",
    "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONHOME", "PYTHONPATH",
    "PYTHONHASHSEED", "PYTHONWARNINGS", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "SYSTEMDRIVE",
    "WINDIR", "COMSPEC", "PATHEXT", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "PROGRAMFILES",
    "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TOKENIZERS_PARALLELISM",
    "STUDIO_HOME",
])
# fmt: on
_PREFIXES = (
    "LC_",
    "XDG_",
    "CUDA_",
    "NVIDIA_",
    "NCCL_",
    "ROCM_",
    "HIP_",
    "HSA_",
    "OMP_",
    "MKL_",
    "KMP_",
    "OPENBLAS_",
    "MALLOC_",
    "PYTORCH_",
    "TORCH_",
    "ACCELERATE_",
    "HF_",
    "TRANSFORMERS_",
    "DIFFUSERS_",
    "STUDIO_",
    "COMMONPROGRAMFILES",
)  # fmt: skip
_SECRET_NAME = re.compile(
    r"(^|_)(TOKENS?|KEYS?|SECRETS?|PASSWORDS?|PASSWD|PAT|CREDENTIALS?|AUTH)($|_)", re.IGNORECASE
)
# Tokens of Hugging Face, Replicate, OpenAI-style services and GitHub, and "Bearer ..." headers.
_SECRET_TEXT = re.compile(
    rb"\b(?:hf_[A-Za-z0-9]{16,}|r8_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,})"
    rb"|(?<=Bearer )[A-Za-z0-9._~+/-]{16,}"
)
# Whether there may be one at all, in a fifth of the time, which a log of a gigabyte needs: each looks for a rare byte first.
_HINTS = (
    re.compile(rb"_[A-Za-z0-9]{16}(?:(?<=hf_.{16})|(?<=r8_.{16})|(?<=gh[pousr]_.{16}))"),
    re.compile(rb"sk-[A-Za-z0-9_-]{20}"),
    re.compile(rb"Bearer [A-Za-z0-9._~+/-]{16}"),
)
_PRIVATE = frozenset({"STUDIO_LIFELINE"})


def is_secret_name(name: str) -> bool:
    """Whether a variable's name says that its value is a secret, such as `HF_TOKEN`."""
    return bool(_SECRET_NAME.search(name))


def allowed(environ: Mapping[str, str] | None = None, secrets: Iterable[str] = ()) -> dict[str, str]:
    """The part of the environment that jobs get: what is on the list, and the secrets asked for by name."""
    wanted = {s.upper() for s in secrets}
    out = {}
    for name, value in (os.environ if environ is None else environ).items():
        upper = name.upper()
        listed = upper in _NAMES or upper.startswith(_PREFIXES)
        if upper in wanted or (listed and upper not in _PRIVATE and not is_secret_name(name)):
            out[name] = value
    return out


class Blotter:
    """Blots secrets out of text: the values given, and whatever looks like a token."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values = sorted({v.encode() for v in values if len(v) >= 6}, key=len, reverse=True)

    def clean(self, text: bytes) -> bytes:
        for value in self._values:
            text = text.replace(value, b"***")
        if any(hint.search(text) for hint in _HINTS):
            text = _SECRET_TEXT.sub(b"***", text)
        return text
