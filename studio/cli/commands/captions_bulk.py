"""Many captions changed at once: each change is shown before it is applied, and can be undone."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio.cli.caption_filters import FILTERS, chosen, store_of
from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import Bad, text
from studio.findings import Finding
from studio.project import Project

GROUP = "Pictures and captions"
SHOWN = 20  # changes printed in a preview; --json holds all
PREVIEW = "Shows what would change first; --yes applies it."


def any_text(raw: str) -> str:
    """Text that may be empty, as the replacement of a search may be. Raises values.Bad."""
    if "\x00" in raw or len(raw) > 5000:
        raise Bad("It cannot be part of a caption.", "Use at most 5000 ordinary characters.")
    return raw


def _show_changes(ctx: Context, changes: list[Any]) -> None:
    for c in changes[:SHOWN]:
        ctx.out.say(c.name, "bold")
        ctx.out.say(f"  - {c.before or '(none)'}", "red")
        ctx.out.say(f"  + {c.after or '(none)'}", "green")
    if len(changes) > SHOWN:
        ctx.out.dim(f"and {len(changes) - SHOWN} more.")


def apply_changes(ctx: Context, project: Project, changes: list[Any], write: Any, what: str) -> Reply:
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
        store = store_of(project)
        told = getattr(args, "old", None) or getattr(args, "tag_word", None) or ""
        edit = Edit.model_validate(
            {
                "kind": "spaces" if getattr(args, "back", False) else kind,
                "find": told if isinstance(told, str) else ", ".join(told),
                "text": getattr(args, "new", None) or getattr(args, "text", None) or "",
                "regex": getattr(args, "regex", False),
                "match_case": getattr(args, "match_case", False),
                "whole_word": getattr(args, "whole_word", False),
            }
        )
        changes = preview(chosen(ctx, project, store, args), edit, store.trigger)
        return apply_changes(
            ctx, project, changes, lambda: apply(store, changes, what=edit.words), edit.words
        )

    return run


def _check_replace(args: Namespace) -> list[Finding]:
    if args.old is not None and args.old == args.new and not args.regex:
        return [problem("OLD and NEW are the same.", "Nothing would change.", "Type another NEW.")]
    return []


def _check_merge(args: Namespace) -> list[Finding]:
    tags = [t.strip().casefold() for t in args.tag_word or [] if t and t.strip()]
    if args.tag_word and len(set(tags)) < 2 and args.new is None:
        return [
            problem(
                "Merging needs two tags or more.",
                "One tag alone has nothing to be merged with.",
                "Name the tags, the one to keep last, or use `lora-studio captions rename-tag`.",
            )
        ]
    return []


def _merge(ctx: Context, args: Namespace) -> Reply:
    if args.new is None:
        args.new = args.tag_word[-1]
    return _bulk("rename_tag")(ctx, args)  # type: ignore[no-any-return]


_TAGS = Word(
    "TAG",
    "The tag; several with commas between them.",
    required=True,
    convert=text(1000),
    dest_name="tag_word",
)
COMMANDS = (
    Command(
        "captions replace",
        GROUP,
        "Search and replace in captions.",
        _bulk("replace"),
        words=(
            Word("OLD", "Text to look for.", required=True, convert=text(1000)),
            Word("NEW", "What takes its place; '' removes it.", required=True, convert=any_text),
        ),
        options=(
            Option("--regex", "OLD is a regular expression."),
            Option("--match-case", "Upper and lower case differ."),
            Option("--whole-word", "Only whole words."),
            YES,
            *FILTERS,
        ),
        details=PREVIEW + " The trigger word in front is never changed.",
        examples=("captions replace doggy dog --yes",),
        check=_check_replace,
    ),
    Command(
        "captions prepend",
        GROUP,
        "Add words in front of captions, after the trigger word.",
        _bulk("prepend"),
        words=(Word("TEXT", "The words.", required=True, convert=text(5000)),),
        options=(YES, *FILTERS),
        details=PREVIEW,
    ),
    Command(
        "captions append",
        GROUP,
        "Add words at the end of captions.",
        _bulk("append"),
        words=(Word("TEXT", "The words.", required=True, convert=text(5000)),),
        options=(YES, *FILTERS),
        details=PREVIEW,
        examples=('captions append "at night" --tag stars',),
    ),
    Command(
        "captions remove-tag",
        GROUP,
        "Remove tags from captions.",
        _bulk("remove_tag"),
        words=(_TAGS,),
        options=(YES, *FILTERS),
        details=PREVIEW,
    ),
    Command(
        "captions rename-tag",
        GROUP,
        "Rename a tag in captions, or merge several into one.",
        _bulk("rename_tag"),
        words=(_TAGS, Word("NEW", "Its new name.", required=True, convert=text(500))),
        options=(YES, *FILTERS),
        details=PREVIEW,
    ),
    Command(
        "captions merge-tags",
        GROUP,
        "Make one tag of several: the last one named takes the place of the others, once in a caption.",
        _merge,
        words=(
            Word(
                "TAG",
                "Tags, the one to keep last.",
                required=True,
                many=True,
                convert=text(500),
                dest_name="tag_word",
            ),
        ),
        options=(
            Option("--new", "Another name for the merged tag.", metavar="TAG", convert=text(500)),
            YES,
            *FILTERS,
        ),
        details=PREVIEW,
        examples=("captions merge-tags ship vessel boat",),
        check=_check_merge,
    ),
    Command(
        "captions sort",
        GROUP,
        "Sort the tags of captions by the alphabet, after the trigger word.",
        _bulk("sort"),
        options=(YES, *FILTERS),
        details=PREVIEW,
    ),
    Command(
        "captions dedupe",
        GROUP,
        "Remove tags that a caption holds twice.",
        _bulk("dedupe"),
        options=(YES, *FILTERS),
        details=PREVIEW,
    ),
    Command(
        "captions underscores",
        GROUP,
        "Replace underscores in tags by spaces; faces such as ^_^ stay.",
        _bulk("underscores"),
        options=(Option("--back", "The other way: spaces in tags by underscores."), YES, *FILTERS),
        details=PREVIEW,
    ),
)
