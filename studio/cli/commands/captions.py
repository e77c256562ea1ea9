"""Captions: read, write and change many at once; each change is shown before it is applied and can be undone."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio import models
from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import Bad, did_you_mean, one_of, text, whole
from studio.errors import NotFoundError
from studio.findings import Finding
from studio.project import Project

GROUP = "Pictures and captions"
SHOWN = 20  # changes printed in a preview; --json holds all


def _store(project: Project) -> Any:
    from studio.captions.store import CaptionStore

    return CaptionStore(project)


def _any_text(raw: str) -> str:
    """Text that may be empty, as the replacement of a search may be. Raises values.Bad."""
    if "\x00" in raw or len(raw) > 5000:
        raise Bad("It cannot be part of a caption.", "Use at most 5000 ordinary characters.")
    return raw


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


def _list(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import text as words
    from studio.captions.stats import tag_counts, token_count, token_limit

    project = ctx.project()
    store = _store(project)
    trigger = store.trigger
    every = store.all()
    if args.tags:
        counts = tag_counts(every, trigger).most_common()
        ctx.out.table(["Tag", "Captions"], counts[: args.limit], right=(1,))
        return Reply({"project": project.slug, "tags": dict(counts)})
    entry = models.get_model(ctx.workspace, project.intent.base_model)
    limit = token_limit(entry, ctx.workspace)
    rows = []
    for name, c in every.items():
        no_trigger = bool(c.text) and not words.leads(c.text, trigger)
        state = "no-trigger" if no_trigger else c.status.replace(" ", "-")
        if args.only and args.only not in (state, c.status.replace(" ", "-")):
            continue
        if args.find and args.find.lower() not in c.text.lower():
            continue
        rows.append(
            {
                "picture": name,
                "caption": c.text,
                "author": c.author,
                "status": c.status,
                "trigger_first": bool(c.text) and not no_trigger,
                "tokens": token_count(c.text, entry, ctx.workspace) if c.text else 0,
                "updated": c.updated,
            }
        )
    shown = rows[: args.limit]
    ctx.out.table(
        ["Picture", "Caption", "Author", "Status", "Tokens"],
        [
            [
                r["picture"],
                r["caption"] or "(none)",
                r["author"],
                r["status"] if r["trigger_first"] or not r["caption"] else "trigger word not first",
                "" if r["tokens"] is None else r["tokens"],
            ]
            for r in shown
        ],
        right=(4,),
    )
    if not every:
        ctx.out.say(f"'{project.slug}' has no pictures yet.")
        ctx.out.next("lora-studio import FOLDER")
    else:
        more = f"; --limit {len(rows)} shows all" if len(rows) > len(shown) else ""
        ctx.out.dim(f"{len(shown)} of {len(every)} captions{more}. The trigger word is {trigger}.")
    return Reply({"project": project.slug, "trigger": trigger, "token_limit": limit, "captions": rows})


def _show_changes(ctx: Context, changes: list[Any]) -> None:
    for c in changes[:SHOWN]:
        ctx.out.say(c.name, "bold")
        ctx.out.say(f"  - {c.before or '(none)'}", "red")
        ctx.out.say(f"  + {c.after or '(none)'}", "green")
    if len(changes) > SHOWN:
        ctx.out.dim(f"and {len(changes) - SHOWN} more.")


def _apply(ctx: Context, project: Project, changes: list[Any], write: Any, what: str) -> Reply:
    """Show changes, ask, write them; what was done."""
    data: dict[str, Any] = {
        "project": project.slug,
        "what": what,
        "changes": [{"picture": c.name, "before": c.before, "after": c.after} for c in changes],
        "applied": False,
        "skipped": [],
    }
    if not changes:
        ctx.out.say("No caption would change.")
        return Reply(data)
    _show_changes(ctx, changes)
    ctx.out.say()
    count = len(changes)
    ctx.out.say(f"{count} caption{'s' if count != 1 else ''} would change.")
    if ctx.agreed("Apply this?"):
        result = write()
        data["applied"] = True
        data["skipped"] = [f.model_dump(mode="json") for f in result.skipped]
        ctx.out.good(f"{len(result.changed)} changed. `lora-studio captions undo` takes it back.")
        ctx.out.findings(list(result.skipped))
    return Reply(data)


def _bulk(kind: str) -> Any:
    """The command function of one kind of bulk edit."""

    def run(ctx: Context, args: Namespace) -> Reply:
        from studio.captions.edits import Edit, apply, preview

        project = ctx.project()
        store = _store(project)
        edit = Edit.model_validate(
            {
                "kind": kind,
                "find": getattr(args, "old", None) or getattr(args, "tag", None) or "",
                "text": getattr(args, "new", None) or getattr(args, "text", None) or "",
                "regex": getattr(args, "regex", False),
                "match_case": getattr(args, "match_case", False),
                "whole_word": getattr(args, "whole_word", False),
            }
        )
        changes = preview(store.all(), edit, store.trigger)
        return _apply(ctx, project, changes, lambda: apply(store, changes, what=edit.words), edit.words)

    return run


def _set(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import text as words
    from studio.captions.edits import Change

    project = ctx.project()
    store = _store(project)
    name = picture(store, args.picture)
    before = store.get(name).text
    clean = words.clean(args.text)
    after = words.with_trigger(clean, store.trigger) if clean else ""
    changes = [Change(name, before, after)] if before != after else []
    return _apply(
        ctx, project, changes, lambda: store.set(name, args.text, expected=before), f"caption of {name}"
    )


def _add_trigger(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import text as words
    from studio.captions.edits import Change

    project = ctx.project()
    store = _store(project)
    changes = [
        Change(name, c.text, words.with_trigger(c.text, store.trigger))
        for name, c in store.all().items()
        if c.text and not words.leads(c.text, store.trigger)
    ]
    return _apply(
        ctx, project, changes, lambda: store.add_trigger([c.name for c in changes]), "trigger word put first"
    )


def _approve(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    store = _store(project)
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


def _undo_or_redo(way: str) -> Any:
    def run(ctx: Context, args: Namespace) -> Reply:
        project = ctx.project()
        store = _store(project)
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


def _check_replace(args: Namespace) -> list[Finding]:
    if args.old is not None and args.old == args.new and not args.regex:
        return [problem("OLD and NEW are the same.", "Nothing would change.", "Type another NEW.")]
    return []


PREVIEW = "Shows what would change first; --yes applies it."
COMMANDS = (
    Command(
        "captions list",
        GROUP,
        "List pictures with their captions.",
        _list,
        options=(
            Option(
                "--only",
                "Only those that are empty, need review, are approved, or do not start with the trigger word.",
                metavar="STATE",
                convert=one_of(("empty", "needs-review", "approved", "no-trigger")),
            ),
            Option("--find", "Only captions with this text.", metavar="TEXT", convert=text(500)),
            Option("--tags", "How often each tag occurs, instead."),
            Option(
                "--limit", "How many to show.", metavar="N", convert=whole(1, 1_000_000, 100), default=100
            ),
        ),
        examples=("captions list --only empty", "captions list --tags"),
    ),
    Command(
        "captions set",
        GROUP,
        "Write one caption; the trigger word is put first.",
        _set,
        words=(
            Word("PICTURE", "The picture's name.", required=True, convert=text(300)),
            Word("TEXT", "The caption; '' takes it away.", required=True, convert=_any_text),
        ),
        options=(YES,),
        details=PREVIEW,
        examples=('captions set 012.png "inkstyle01, a boat on a lake"',),
    ),
    Command(
        "captions replace",
        GROUP,
        "Search and replace in all captions.",
        _bulk("replace"),
        words=(
            Word("OLD", "Text to look for.", required=True, convert=text(1000)),
            Word("NEW", "What takes its place; '' removes it.", required=True, convert=_any_text),
        ),
        options=(
            Option("--regex", "OLD is a regular expression."),
            Option("--match-case", "Upper and lower case differ."),
            Option("--whole-word", "Only whole words."),
            YES,
        ),
        details=PREVIEW + " The trigger word in front is never changed.",
        examples=("captions replace doggy dog --yes",),
        check=_check_replace,
    ),
    Command(
        "captions prepend",
        GROUP,
        "Add words in front of all captions, after the trigger word.",
        _bulk("prepend"),
        words=(Word("TEXT", "The words.", required=True, convert=text(5000)),),
        options=(YES,),
        details=PREVIEW,
    ),
    Command(
        "captions append",
        GROUP,
        "Add words at the end of all captions.",
        _bulk("append"),
        words=(Word("TEXT", "The words.", required=True, convert=text(5000)),),
        options=(YES,),
        details=PREVIEW,
    ),
    Command(
        "captions remove-tag",
        GROUP,
        "Remove tags from all captions.",
        _bulk("remove_tag"),
        words=(Word("TAG", "The tag; several with commas between them.", required=True, convert=text(1000)),),
        options=(YES,),
        details=PREVIEW,
    ),
    Command(
        "captions rename-tag",
        GROUP,
        "Rename a tag in all captions, or merge several into one.",
        _bulk("rename_tag"),
        words=(
            Word("TAG", "The tag; several with commas between them.", required=True, convert=text(1000)),
            Word("NEW", "Its new name.", required=True, convert=text(500)),
        ),
        options=(YES,),
        details=PREVIEW,
    ),
    Command(
        "captions add-trigger",
        GROUP,
        "Put the trigger word first where it is not.",
        _add_trigger,
        options=(YES,),
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
    Command("captions undo", GROUP, "Take back the last change.", _undo_or_redo("undo"), options=(YES,)),
    Command(
        "captions redo", GROUP, "Do the last undone change again.", _undo_or_redo("redo"), options=(YES,)
    ),
)
