"""Fetching the result: the archive is never extracted; the one LoRA in it is streamed out, checked and named by us."""

from __future__ import annotations

import os
import re
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from studio import files, remote
from studio.errors import InputError, NotFoundError, StudioError
from studio.models import tensor_header
from studio.replicate.api import Api
from studio.replicate.training import Training

MAX_ARCHIVE = 8_000_000_000
MAX_LORA = 4_000_000_000
MAX_MEMBERS = 10_000
_CHUNK = 1024 * 1024


def lora_name(destination: str, trigger: str) -> str:
    """File name `{destination}_{trigger_word}.safetensors`, safe on every system."""
    stem = "_".join(p for p in (_safe(destination.replace("/", "-")), _safe(trigger)) if p)
    return f"{stem or 'lora'}.safetensors"


def _safe(text: str) -> str:
    kept = re.sub(r"[^\w.-]+", "-", text.strip()).strip("-.")[:80]
    return f"{kept}-1" if _reserved(kept) else kept


def _reserved(name: str) -> bool:
    return bool(re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name))


def fetch(
    api: Api,
    training: Training,
    target: Path,
    *,
    progress: Callable[[int, int | None], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> Path:
    """Download the result of a finished training and put its LoRA at `target`; the path it got.

    A file of another content that has this name already stays: the new one is called `name-2` and so on; one of the
    same content is not written again. What has arrived of a broken download is gone on from next time.
    Raises NotFoundError when the result is not there (any more), InputError when it is no LoRA.
    """
    url = training.weights_url
    if not url:
        raise NotFoundError(
            f"Training {training.id} has no result to fetch.",
            f"It is {training.words}."
            if not training.succeeded
            else "Replicate keeps results for a limited time.",
            "Wait until it has finished."
            if not training.ended
            else "Its destination model on Replicate still has the LoRA.",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    archive = target.parent / f".{training.id or 'training'}.download"
    remote.download(
        url,
        archive,
        max_bytes=MAX_ARCHIVE,
        headers=api.headers_for(url),
        progress=progress,
        should_stop=should_stop,
        allow=api.allow(url),
        wait=wait,
    )
    lora = target.parent / f".{training.id or 'training'}.lora"
    try:
        take_lora(archive, lora)
        check_lora(lora)
        return _keep(lora, target)
    finally:
        lora.unlink(missing_ok=True)
        archive.unlink(missing_ok=True)


def _keep(lora: Path, target: Path) -> Path:
    """Give it its name without replacing anything."""
    place, n = target, 1
    while True:
        try:
            # Linking fails when the name is taken, where renaming would replace.
            os.link(lora, place)
            return place
        except FileExistsError:
            if place.is_file() and files.sha256_file(place) == files.sha256_file(lora):
                return place
            n += 1
            place = target.with_name(f"{target.stem}-{n}{target.suffix}")
        except OSError:  # a file system without links
            if place.exists():
                n += 1
                place = target.with_name(f"{target.stem}-{n}{target.suffix}")
                continue
            os.replace(lora, place)
            return place


def take_lora(archive: Path, target: Path) -> None:
    """Copy the one LoRA of a downloaded result to `target`: a tar (packed or not) that nests it anywhere, or the bare
    file. No name of the archive is used as a path. Raises InputError."""
    if not tarfile.is_tarfile(archive):
        with archive.open("rb") as f:
            head = f.read(4)
        if head.startswith((b"PK", b"\x80\x02", b"\x80\x04")):
            raise _refused("It is a ZIP or pickle file, which the studio does not open.")
        files.copy_atomic(archive, target)
        return
    chosen = _choose(_members(archive))
    with tarfile.open(archive, "r|*") as tar:
        for member in tar:
            if member.name == chosen and member.isreg():
                source = tar.extractfile(member)
                if source is not None:
                    _copy(source, target, member.size)
                    return
    raise _refused("Its LoRA could not be read.")


def _members(archive: Path) -> list[str]:
    """Names of the regular safetensors files inside, sizes and count checked."""
    found: list[str] = []
    try:
        with tarfile.open(archive, "r|*") as tar:
            for number, member in enumerate(tar):
                if number >= MAX_MEMBERS:
                    raise _refused(f"It has more than {MAX_MEMBERS} entries.")
                if member.size > MAX_LORA:
                    raise _refused(f"An entry is larger than {files.human_size(MAX_LORA)}.")
                if member.isreg() and member.name.lower().endswith(".safetensors"):
                    found.append(member.name)
    except (tarfile.TarError, EOFError, OSError) as e:
        if isinstance(e, StudioError):
            raise
        raise _refused(f"It is damaged: {e}.") from e
    return found


def _choose(names: list[str]) -> str:
    """The final LoRA: the only one, else the one called lora.safetensors, else the only one without a step number."""
    if not names:
        raise _refused("There is no .safetensors file in it.")
    if len(names) == 1:
        return names[0]
    plain = [n for n in names if n.rpartition("/")[2].lower() == "lora.safetensors"]
    if len(plain) == 1:
        return plain[0]
    unnumbered = [n for n in names if not re.search(r"_\d{4,}\.safetensors$", n)]
    if len(unnumbered) == 1:
        return unnumbered[0]
    raise _refused(f"It has {len(names)} .safetensors files and none is called lora.safetensors.")


def _copy(source: IO[bytes], target: Path, size: int) -> None:
    with files.atomic_file(target) as out:
        done = 0
        while piece := source.read(_CHUNK):
            done += len(piece)
            if done > MAX_LORA:
                raise _refused(f"Its LoRA is larger than {files.human_size(MAX_LORA)}.")
            out.write(piece)
        if done != size:
            raise _refused("Its LoRA is cut off.")


def check_lora(path: Path) -> None:
    """Return when a file is a whole safetensors file with LoRA tensors; raises InputError otherwise."""
    names = [n for n in tensor_header(path) if n != "__metadata__"]
    if not any("lora" in n.lower() for n in names):
        raise _refused(f"None of its {len(names)} tensors belongs to a LoRA.")


def _refused(why: str) -> InputError:
    return InputError(
        "The result that Replicate sent is not a LoRA file the studio can take.",
        why,
        "Look at the training on replicate.com; its destination model has the files.",
    )
