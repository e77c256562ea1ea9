"""Captions: read, write and approve them, their history, and what they come to."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio import models
from studio.cli.caption_filters import FILTERS, chosen, store_of
from studio.cli.caption_filters import picture as picture
from studio.cli.commands.captions_bulk import GROUP, PREVIEW, SHOWN, any_text, apply_changes
from studio.cli.context import Context
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import text, whole

LATEST = 20  # edits listed by `captions history`


def _list(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import text as words
    from studio.captions.stats import tag_counts
    from studio.captions.tokens import readers

    project = ctx.project()
    store = store_of(project)
    trigger = store.trigger
    some = chosen(ctx, project, store, args)
    if args.tags:
        counts = tag_counts(some, trigger).most_common()
        ctx.out.table(["Tag", "Captions"], counts[: args.limit], right=(1,))
        return Reply({"project": project.slug, "tags": dict(counts)})
    reader = readers(models.get_model(ctx.workspace, project.intent.base_model), ctx.workspace)[0]
    counted = reader.counts(c.text for c in some.values())
    tokens: list[int | None] = [*counted] if counted else [None] * len(some)
    rows = [
        {
            "picture": name,
            "caption": c.text,
            "author": c.author,
            "engine": c.engine,
            "settings": dict(c.settings),
            "by": c.by,
            "status": c.status,
            "trigger_first": bool(c.text) and words.leads(c.text, trigger),
            "tokens": count if c.text else 0,
            "updated": c.updated,
            "outside": c.outside,
        }
        for (name, c), count in zip(some.items(), tokens, strict=True)
    ]
    shown = rows[: args.limit]
    ctx.out.table(
        ["Picture", "Caption", "Author", "Status", "Tokens"],
        [
            [
                r["picture"],
                r["caption"] or "(none)",
                r["by"],
                r["status"] if r["trigger_first"] or not r["caption"] else "trigger word not first",
                "" if r["tokens"] is None else r["tokens"],
            ]
            for r in shown
        ],
        right=(4,),
    )
    every = len(store.all())
    if not every:
        ctx.out.say(f"'{project.slug}' has no pictures yet.")
        ctx.out.next("lora-studio import FOLDER")
    else:
        more = f"; --limit {len(rows)} shows all" if len(rows) > len(shown) else ""
        ctx.out.dim(f"{len(shown)} of {every} captions{more}. The trigger word is {trigger}.")
    return Reply({"project": project.slug, "trigger": trigger, "token_limit": reader.limit, "captions": rows})


def _stats(ctx: Context, args: Namespace) -> Reply:
    from studio.captions.overview import overview_of

    project = ctx.project()
    entry = models.get_model(ctx.workspace, project.intent.base_model)
    store = store_of(project)
    found = overview_of(
        chosen(ctx, project, store, args), entry, ctx.workspace, store.trigger, project.intent.kind
    )
    tokens = "not measured: the tokenizer is not on this computer"
    if found.tokens:
        tokens = f"{found.tokens[0]} to {found.tokens[2]}, half of them up to {found.tokens[1]}; {found.reader} reads {found.limit}"
    ctx.out.facts(
        [
            ("Captions", f"{found.captioned} of {found.pictures} pictures"),
            ("Status", ", ".join(f"{n} {s}" for s, n in found.status.items() if n)),
            ("Written by", ", ".join(f"{n} {w}" for w, n in found.authors.items())),
            ("Tokens", tokens),
            ("Too long", "" if found.too_long is None else len(found.too_long)),
            ("Tags", f"{found.tags} different ones" if found.tags else ""),
            ("Format", f"{found.as_tags} tags, {found.as_sentences} sentences"),
        ]
    )
    ctx.out.findings(found.findings)
    return Reply({"project": project.slug, **found.as_dict()})


def _set(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import text as words
    from studio.captions.edits import Change

    project = ctx.project()
    store = store_of(project)
    name = picture(store, args.picture)
    before = store.get(name).text
    clean = words.clean(args.text)
    after = words.with_trigger(clean, store.trigger) if clean else ""
    changes = [Change(name, before, after)] if before != after else []
    return apply_changes(
        ctx, project, changes, lambda: store.set(name, args.text, expected=before), f"caption of {name}"
    )


def _add_trigger(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import text as words
    from studio.captions.edits import Change

    project = ctx.project()
    store = store_of(project)
    changes = [
        Change(name, c.text, words.with_trigger(c.text, store.trigger))
        for name, c in chosen(ctx, project, store, args).items()
        if c.text and not words.leads(c.text, store.trigger)
    ]
    return apply_changes(
        ctx, project, changes, lambda: store.add_trigger([c.name for c in changes]), "trigger word put first"
    )


def _approve(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    store = store_of(project)
    every = store.all()
    names = [picture(store, n) for n in args.picture] if args.picture else list(every)
    waiting = [n for n in names if every[n].status == "needs review"]
    for name in waiting[:SHOWN]:
        ctx.out.say(f"{name}: {every[name].text}")
    if len(waiting) > SHOWN:
        ctx.out.dim(f"and {len(waiting) - SHOWN} more.")
    data: dict[str, Any] = {"project": project.slug, "pictures": waiting, "applied": False}
    if not waiting:
        ctx.out.say("Nothing waits for review.")
        return Reply(data)
    if ctx.agreed(f"Approve {len(waiting)}?"):
        store.approve(waiting)
        data["applied"] = True
        ctx.out.good(f"{len(waiting)} approved.")
    return Reply(data)


def _history(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    store = store_of(project)
    if args.picture:
        return _versions(ctx, store, picture(store, args.picture))
    edits: list[dict[str, Any]] = []
    for e in reversed(store.history()):
        if edits and e.group and edits[-1]["group"] == e.group:
            edits[-1]["captions"] += len(e.steps)
            continue
        edits.append(
            {
                "id": e.id,
                "at": e.at,
                "what": e.what,
                "author": e.author,
                "captions": len(e.steps),
                "group": e.group,
            }
        )
    ctx.out.table(
        ["When", "What", "By", "Captions"],
        [[e["at"], e["what"], e["author"], e["captions"]] for e in edits[: args.limit]],
        right=(3,),
    )
    if not edits:
        ctx.out.say("No caption was changed here yet.")
    else:
        ctx.out.dim("The newest first. `lora-studio captions undo` takes the first one back.")
    data = [{k: v for k, v in e.items() if k != "group"} for e in edits]
    return Reply(
        {"project": project.slug, "edits": data, "can_undo": store.can_undo, "can_redo": store.can_redo}
    )


def _versions(ctx: Context, store: Any, name: str) -> Reply:
    found = store.versions(name)
    ctx.out.table(
        ["Version", "When", "By", "Caption"],
        [[v.number, v.at, v.by, v.text or "(none)"] for v in found],
        right=(0,),
    )
    if not found:
        ctx.out.say(f"{name} never had a caption.")
    elif len(found) > 1:
        ctx.out.next(f"lora-studio captions restore {name} {found[-2].number}")
    versions = [
        {
            "version": v.number, "at": v.at, "by": v.by, "author": v.author, "engine": v.engine,
            "settings": dict(v.settings), "what": v.what, "caption": v.text, "current": v.current,
        }
        for v in found
    ]  # fmt: skip
    return Reply({"project": store.project.slug, "picture": name, "versions": versions})


def _restore(ctx: Context, args: Namespace) -> Reply:
    from studio.captions.edits import Change

    project = ctx.project()
    store = store_of(project)
    name = picture(store, args.picture)
    before = store.get(name).text
    wanted = store.version(name, args.version)
    changes = [Change(name, before, wanted.text)] if before != wanted.text else []
    return apply_changes(
        ctx, project, changes, lambda: store.restore(name, args.version, expected=before),
        f"caption of {name}: back to version {args.version}",
    )  # fmt: skip


def _undo_or_redo(way: str) -> Any:
    def run(ctx: Context, args: Namespace) -> Reply:
        project = ctx.project()
        store = store_of(project)
        what = store.can_undo if way == "undo" else store.can_redo
        data: dict[str, Any] = {"project": project.slug, "what": what, "applied": False, "changed": []}
        if not what:
            ctx.out.say(f"There is nothing to {way}.")
            return Reply(data)
        ctx.out.say(f"{'Take back' if way == 'undo' else 'Do again'}: {what}")
        if ctx.agreed("Do this?"):
            result = store.undo() if way == "undo" else store.redo()
            data |= {"applied": True, "changed": list(result.changed)}
            ctx.out.good(f"{len(result.changed)} captions changed.")
            ctx.out.findings(list(result.skipped))
            data["skipped"] = [f.model_dump(mode="json") for f in result.skipped]
        return Reply(data)

    return run


COMMANDS = (
    Command(
        "captions list",
        GROUP,
        "List pictures with their captions.",
        _list,
        options=(
            Option("--tags", "How often each tag occurs, instead."),
            Option(
                "--limit", "How many to show.", metavar="N", convert=whole(1, 1_000_000, 100), default=100
            ),
            *FILTERS,
        ),
        examples=("captions list --only empty", "captions list --tags", "captions list --too-long"),
    ),
    Command(
        "captions stats",
        GROUP,
        "What the captions come to: who wrote them, how long they are, what is odd about their words.",
        _stats,
        options=FILTERS,
    ),
    Command(
        "captions set",
        GROUP,
        "Write one caption; the trigger word is put first.",
        _set,
        words=(
            Word("PICTURE", "The picture's name.", required=True, convert=text(300)),
            Word("TEXT", "The caption; '' takes it away.", required=True, convert=any_text),
        ),
        options=(YES,),
        details=PREVIEW,
        examples=('captions set 012.png "inkstyle01, a boat on a lake"',),
    ),
    Command(
        "captions add-trigger",
        GROUP,
        "Put the trigger word first where it is not.",
        _add_trigger,
        options=(YES, *FILTERS),
        details=PREVIEW,
    ),
    Command(
        "captions approve",
        GROUP,
        "Mark captions as reviewed; all that wait when none is named.",
        _approve,
        words=(Word("PICTURE", "Names of pictures.", many=True, convert=text(300)),),
        options=(YES,),
        details=PREVIEW,
    ),
    Command(
        "captions history",
        GROUP,
        "What was changed, the newest first; with a picture, every version of its caption.",
        _history,
        words=(Word("PICTURE", "The picture's name.", convert=text(300)),),
        options=(
            Option(
                "--limit",
                "How many to show.",
                metavar="N",
                convert=whole(1, 1_000_000, LATEST),
                default=LATEST,
            ),
        ),
        examples=("captions history", "captions history 012.png"),
    ),
    Command(
        "captions restore",
        GROUP,
        "Write an earlier version of a caption again.",
        _restore,
        words=(
            Word("PICTURE", "The picture's name.", required=True, convert=text(300)),
            Word(
                "VERSION",
                "Its number in `captions history PICTURE`.",
                required=True,
                convert=whole(1, 1_000_000, 2),
            ),
        ),
        options=(YES,),
        details=PREVIEW,
        examples=("captions restore 012.png 2",),
    ),
    Command("captions undo", GROUP, "Take back the last change.", _undo_or_redo("undo"), options=(YES,)),
    Command(
        "captions redo", GROUP, "Do the last undone change again.", _undo_or_redo("redo"), options=(YES,)
    ),
)
