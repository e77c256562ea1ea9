"""Which captions a command is about: the options that narrow them, alike for lists and for bulk edits."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from studio import models
from studio.cli.context import Context
from studio.cli.spec import Option
from studio.cli.values import did_you_mean, one_of, text
from studio.errors import NotFoundError
from studio.project import Project

STATES = ("empty", "needs-review", "approved", "no-trigger", "outside")
GROUP = "Which captions"
FILTERS = (
    Option(
        "--only",
        "Only those that are empty, need review, are approved, do not start with the trigger word, or were changed by "
        "another program.",
        metavar="STATE",
        convert=one_of(STATES),
        group=GROUP,
    ),
    Option(
        "--find",
        "Only captions or pictures' names with this text.",
        metavar="TEXT",
        convert=text(500),
        group=GROUP,
    ),
    Option("--tag", "Only captions with this tag.", metavar="TAG", convert=text(500), many=True, group=GROUP),
    Option(
        "--without",
        "Only captions without this tag.",
        metavar="TAG",
        convert=text(500),
        many=True,
        group=GROUP,
    ),
    Option(
        "--author",
        "Only those by person, by any machine, that came in by import, or by the engine of this name.",
        metavar="WHO",
        convert=text(100),
        group=GROUP,
    ),
    Option("--too-long", "Only those whose end the base model does not read.", group=GROUP),
    Option("--picture", "Only this picture.", metavar="NAME", convert=text(300), many=True, group=GROUP),
)
"""The options that narrow what a command is about."""


def store_of(project: Project) -> Any:
    """The project's captions."""
    from studio.captions.store import CaptionStore

    return CaptionStore(project)


def picture(store: Any, name: str) -> str:
    """The picture's full name; its stem alone will do. Raises NotFoundError with the nearest name."""
    known = list(store.all())
    if name in known:
        return name
    stems = [n for n in known if n.rsplit(".", 1)[0] == name]
    if len(stems) == 1:
        return str(stems[0])
    raise NotFoundError(
        f"There is no picture called '{name}' in '{store.project.slug}'.",
        f"It has {len(known)} pictures." if known else "It has no pictures yet.",
        f"{did_you_mean(name, known)} `lora-studio captions list` shows their names.".strip(),
    )


def narrowed(args: Namespace) -> bool:
    """Whether any of the options was used."""
    return any(getattr(args, o.dest, None) for o in FILTERS)


def chosen(ctx: Context, project: Project, store: Any, args: Namespace) -> Mapping[str, Any]:
    """The captions that the options let through, in the order of the pictures.

    Raises NotFoundError for a picture, a tag or an author that does not exist.
    """
    every = store.all()
    if not narrowed(args):
        return dict(every)
    from studio.captions import text as words
    from studio.captions.filters import Filter, fitting
    from studio.captions.tokens import token_counter, token_limit

    trigger = store.trigger
    names = {picture(store, n) for n in args.picture or ()}
    _must_be_authors(args.author, every)
    _must_be_tags([*(args.tag or ()), *(args.without or ())], every, trigger)
    wanted = Filter(
        query=args.find or "",
        tags=frozenset(args.tag or ()),
        without=frozenset(args.without or ()),
        outside=args.only == "outside",
        long=bool(args.too_long),
    )
    if args.only in ("empty", "needs-review", "approved"):
        wanted = replace(wanted, show=args.only.replace("-", " "))
    if args.author in ("person", "machine", "import"):
        wanted = replace(wanted, by=args.author)
    count: Any = lambda _: None  # noqa: E731
    if args.too_long:
        entry = models.get_model(ctx.workspace, project.intent.base_model)
        wanted = replace(wanted, limit=token_limit(entry, ctx.workspace))
        count = token_counter(entry, ctx.workspace)
        if count("a") is None:
            raise NotFoundError(
                f"The tokens of {entry.title} cannot be counted here.",
                "Its tokenizer is not on this computer.",
                "Put T5's tokenizer.json into models/t5-tokenizer of the workspace, or leave --too-long out.",
            )
    found = {}
    for name in fitting(every, wanted, trigger, count):
        caption = every[name]
        if names and name not in names:
            continue
        if args.only == "no-trigger" and (not caption.text or words.leads(caption.text, trigger)):
            continue
        if args.author and wanted.by == "anyone" and caption.author != args.author:
            continue
        found[name] = caption
    return found


def _must_be_authors(author: str | None, every: Mapping[str, Any]) -> None:
    known = sorted({c.author for c in every.values() if c.by_machine})
    if author and author not in ("person", "machine", "import", *known):
        raise NotFoundError(
            f"No caption was written by '{author}'.",
            f"Engines that wrote some: {', '.join(known)}." if known else "No engine has written any here.",
            f"{did_you_mean(author, [*known, 'person', 'machine', 'import'])} Use person, machine, import or an engine.".strip(),
        )


def _must_be_tags(tags: list[str], every: Mapping[str, Any], trigger: str) -> None:
    if not tags:
        return
    from studio.captions.stats import tag_counts

    known = list(tag_counts(every, trigger))
    folded = {t.casefold() for t in known}
    for tag in tags:
        if tag.casefold() not in folded:
            raise NotFoundError(
                f"No caption has the tag '{tag}'.",
                "Tags are what stands between commas.",
                f"{did_you_mean(tag, known)} `lora-studio captions list --tags` shows them.".strip(),
            )
