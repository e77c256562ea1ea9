"""From settings to an engine that captions pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from studio.captions import describe, taggers
from studio.captions.auto import Ready
from studio.captions.proposals import Engine

if TYPE_CHECKING:
    from studio.project import Project

Pause = Callable[[float], bool]
"""Waits so many seconds, or less when the job shall stop; True when it shall."""


def engine_of(engine: Ready, project: Project, pause: Pause, examples: Sequence[str] = ()) -> Engine:
    """The engine of these settings. Only what this one needs is loaded.

    examples: captions that a person approved, shown to engines that are asked in words.
    """
    auto = engine.auto
    if auto.engine == "tagger":
        from studio.captions.workers.tagging import TaggingEngine

        folder = taggers.folder_of(project.workspace, auto.tagger.model)
        return TaggingEngine(taggers.check_folder(folder), auto.tagger)
    question = describe.prompt(project.intent.kind, engine.format, auto.words, examples)
    if auto.engine == "endpoint":
        from studio.captions.workers.endpoint import EndpointEngine

        return EndpointEngine(auto.endpoint, question, engine.format, auto.words, pause)
    if auto.engine == "local":
        from studio.captions.workers.local import LocalEngine

        return LocalEngine(auto.local, question, engine.format, auto.words)
    from studio.captions.workers.replicate import ReplicateEngine

    return ReplicateEngine(auto.replicate, question, engine.format, auto.words, pause)
