"""The captions of a project: kohya's `.txt` beside each picture, plus who wrote what and a history with undo.

The `.txt` files are the truth. Every write by the studio puts the trigger word first, is written down in
`<project>/captions/history.jsonl` before it happens, and holds a lock, so that two tabs, a crash or a killed process
lose no text. A caption changed by another program is shown as it is, marked `outside`, and never overwritten by undo.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from studio import files
from studio.captions import text as words
from studio.captions.journal import Note, Status, Step, mark_of
from studio.captions.reading import IMPORTED as IMPORTED
from studio.captions.reading import NO_STAMP, caption_from
from studio.captions.reading import PERSON as PERSON
from studio.captions.reading import Caption as Caption
from studio.captions.recaption import Also, Mode, check, combined, made_with, verdict
from studio.captions.writing import CaptionWriter, changed_meanwhile, must_be_a_caption
from studio.captions.writing import EditResult as EditResult
from studio.captions.writing import gone as gone
from studio.dataset.folder import look
from studio.errors import BusyError, InputError, NotFoundError

if TYPE_CHECKING:
    from studio.captions.versions import Version

_RETRIGGERED = "trigger word {} replaced by {}"


class CaptionStore(CaptionWriter):
    """The captions of one project. Cheap to make; holds nothing that the disk does not say."""

    # ---------------------------------------------------------------- writing

    def set(self, name: str, text: str, author: str = PERSON, *, expected: str | None = None) -> EditResult:
        """Write one caption; the trigger word is put first. An empty text takes the caption away.

        expected: the text the writer saw. When the caption says something else by now, nothing is written and
                  BusyError is raised: another tab was faster.
        Raises NotFoundError when there is no such picture, EnvironmentalError when the disk refuses.
        """
        seen = None if expected is None else {name: expected}
        result = self.set_many({name: text}, author, what=f"caption of {name}", expected=seen)
        if result.skipped:
            first = result.skipped[0]
            raise BusyError(first.what, first.why, first.fix)
        return result

    def set_many(
        self,
        texts: Mapping[str, str],
        author: str = PERSON,
        *,
        what: str = "",
        expected: Mapping[str, str] | None = None,
        status: Status | None = None,
    ) -> EditResult:
        """Write what a person typed, or captions that came along, as one step: all of them, or after an error none.

        texts: by picture name. expected: as in `set`, by name; a caption changed meanwhile is left alone and reported
        in `skipped`. status: of the written captions; otherwise a person's words are approved, others need review.
        An engine's caption that a person changes keeps the engine's name beside the person's.
        Raises NotFoundError when a picture does not exist, InputError when a text is no caption or when `author` is
        an engine (those use `write_machine`), EnvironmentalError.
        """
        if author not in (PERSON, IMPORTED):
            raise InputError(
                f"'{author}' cannot write over captions.",
                "Engines never replace a person's words, which this way of writing would allow.",
                "Use write_machine, which leaves those alone.",
            )

        at = files.now()

        def note(known: Caption, before: str | None, after: str) -> Note:
            verdict: Status = status or ("approved" if author == PERSON else "needs review")
            if (
                author == PERSON and before == after and known.by_machine
            ):  # read and found right: still its words
                return Note(known.author, at, verdict, mark_of(after), known.engine, known.made_with)
            return Note(author, at, verdict, mark_of(after), known.engine, known.made_with)

        return self._edit(texts, expected, what, author, note)

    def correct(
        self,
        texts: Mapping[str, str],
        *,
        what: str = "",
        expected: Mapping[str, str] | None = None,
        mechanical: Collection[str] = (),
    ) -> EditResult:
        """Write a person's bulk edit as one step. Nobody has read the captions one by one, so that their status stays.

        mechanical: names whose words stay the same words, only tidied; those also keep their author.
        Otherwise like `set_many`.
        """

        at = files.now()

        def note(known: Caption, before: str | None, after: str) -> Note:
            kept: Status = "approved" if known.status == "approved" else "needs review"
            return Note(PERSON, at, kept, mark_of(after), known.engine, known.made_with)

        return self._edit(texts, expected, what, PERSON, note, frozenset(mechanical))

    def _edit(
        self,
        texts: Mapping[str, str],
        expected: Mapping[str, str] | None,
        what: str,
        author: str,
        note: Callable[[Caption, str | None, str], Note],
        mechanical: Collection[str] = (),
    ) -> EditResult:
        trigger = self.trigger
        with self._writing():
            self._all_must_exist(texts)
            for name, text in texts.items():
                must_be_a_caption(name, text)
            steps, skipped = [], []
            for name, text in texts.items():
                current = self._read(name)
                seen = None if expected is None else expected.get(name)
                if seen is not None and (current or "") != words.clean(seen):
                    skipped.append(changed_meanwhile(name))
                    continue
                text = words.clean(text)
                after = words.with_trigger(text, trigger) if text else None
                if after is not None and current and name in mechanical:
                    steps.append(self._kept(name, current, after))
                    continue
                was = self._notes.get(name)
                known = caption_from(None if current is None else (NO_STAMP, current, True), was)
                now = None if after is None else note(known, current, after)
                steps.append(Step(name, current, after, was, now))
            return self._commit(what or f"{len(steps)} captions", author, steps, skipped)

    def write_machine(
        self,
        texts: Mapping[str, str],
        engine: str,
        settings: Mapping[str, Any],
        mode: Mode = "only-empty",
        *,
        also: Collection[Also] = (),
        what: str = "",
        group: str = "",
    ) -> EditResult:
        """Write what an engine says, as one step that needs review. What a person wrote or corrected is never replaced.

        engine: its own id, such as `wd-vit-tagger-v3`; settings: plain data (no secrets), kept with each caption.
        mode: `only-empty` writes where nothing is, `append` adds behind what is there (a person stays the author),
        `replace` writes an engine's captions anew. also: see `recaption.Also`.
        group: edits one after the other with the same group, such as the id of a job, are undone as one.
        Names of pictures left alone are in `kept` and `there` of the result, those that are gone in `skipped`.
        Raises InputError (unknown mode, no caption, no engine's name), BusyError, EnvironmentalError.
        """
        check(mode, engine, also)
        trigger = self.trigger
        for name, text in texts.items():
            must_be_a_caption(name, text)
        with self._writing():
            key = self._cache.journal.maker(settings)
            steps, skipped = [], []
            left: dict[str, list[str]] = {"keep": [], "there": []}
            there, at = self._those_there(texts), files.now()
            for name, text in texts.items():
                if name not in there:
                    skipped.append(gone(name))
                    continue
                current, was = self._read(name), self._notes.get(name)
                known = caption_from(None if current is None else (NO_STAMP, current, True), was)
                told = verdict(known, mode, engine, key, trigger, also)
                if told != "write" or not words.clean(text):
                    left["there" if told == "write" else told].append(name)
                    continue
                after = words.with_trigger(combined(known.text, text, mode, trigger), trigger)
                must_be_a_caption(name, after)
                own = known.text and mode == "append" and not known.by_machine
                if mode == "append" and after == current:
                    left["there"].append(name)
                    continue
                author = known.author if own else engine
                now = Note(author, at, "needs review", mark_of(after), engine, key)
                steps.append(Step(name, current, after, was, now))
            done = self._commit(what or f"captions by {engine}", engine, steps, skipped, group)
            return replace(done, kept=tuple(left["keep"]), there=tuple(left["there"]))

    def approve(self, names: Iterable[str]) -> EditResult:
        """Mark captions as approved. Empty ones stay as they are."""
        with self._writing():
            steps = []
            for name in names:
                self._must_exist(name)
                text, note = self._read(name), self._notes.get(name)
                if text and not (note and note.status == "approved" and note.mark == mark_of(text)):
                    known = caption_from((NO_STAMP, text, True), note)
                    now = Note(
                        known.author, files.now(), "approved", mark_of(text), known.engine, known.made_with
                    )
                    steps.append(Step(name, text, text, note, now))
            return self._commit(f"{len(steps)} approved", PERSON, steps, [])

    def unapprove(self, names: Iterable[str]) -> EditResult:
        """Ask for another look at approved captions, word for word as they are and under the name of who wrote them."""
        with self._writing():
            steps = []
            for name in names:
                self._must_exist(name)
                text, note = self._read(name), self._notes.get(name)
                if text and note and note.status == "approved" and note.mark == mark_of(text):
                    steps.append(
                        Step(
                            name, text, text, note, replace(note, updated=files.now(), status="needs review")
                        )
                    )
            return self._commit(f"{len(steps)} not approved any more", PERSON, steps, [])

    def renamed(self, names: Mapping[str, str]) -> None:
        """Pictures are called otherwise now (old name -> new name): approval, author and history go along with each.

        To be told by whoever renames pictures, with the dataset lock held; it is no edit, so nothing is undone by it
        and undo still works under the new names. Told twice it does nothing; told the other way round it goes back.
        """
        with self._writing():
            known = {a: b for a, b in names.items() if a != b and self._cache.journal.knows(a)}
            if known:
                self._cache.journal.renamed(known)

    def hand_on(self, source: str, target: str) -> EditResult:
        """Give a picture that has no caption the one of another picture, under the name of who wrote it and approved as it
        is there. One that has words by then keeps them. Raises NotFoundError when one of them is not there."""
        known = self.get(source)
        was = self._notes.get(source)

        def note(_known: Caption, before: str | None, after: str) -> Note:
            kept: Status = "approved" if known.status == "approved" else "needs review"
            key = was.made_with if was is not None else ""
            return Note(known.author, files.now(), kept, mark_of(after), known.engine, key)

        return self._edit(
            {target: known.text}, {target: ""}, f"caption of {source} given to {target}", known.author, note
        )

    def restore(self, name: str, number: int, *, expected: str | None = None) -> EditResult:
        """Write an earlier version of a caption (see `versions`) again, approved, under the name of who wrote it then.

        expected: as in `set`. The trigger word of today leads it.
        Raises NotFoundError when there is no such picture or version, BusyError when the caption changed meanwhile.
        """
        version = self.version(name, number)

        def note(known: Caption, before: str | None, after: str) -> Note:
            key = made_with(version.settings) if version.settings else ""
            author = version.author or PERSON  # another program's words, which a person chose
            return Note(author, files.now(), "approved", mark_of(after), version.engine, key)

        text = version.text
        for old in self._former_triggers(name):
            if not words.leads(text, self.trigger):
                text = words.without_trigger(text, old)
        seen = None if expected is None else {name: expected}
        what = f"caption of {name}: back to version {number}"
        result = self._edit({name: text or (version.text and self.trigger)}, seen, what, PERSON, note)
        if result.skipped:
            first = result.skipped[0]
            raise BusyError(first.what, first.why, first.fix)
        return result

    def version(self, name: str, number: int) -> Version:
        """One version of a caption. Raises NotFoundError when there is no such picture or version."""
        found = {v.number: v for v in self.versions(name)}
        if number not in found:
            raise NotFoundError(
                f"There is no version {number} of the caption of {name}.",
                f"It has the versions 1 to {len(found)}." if found else "It was never written.",
                "Look at its history for the versions that are there.",
            )
        return found[number]

    def _former_triggers(self, name: str) -> list[str]:
        """Trigger words that once led this picture's caption, longest first."""
        head, middle = _RETRIGGERED.split("{}")[:2]
        told = [e.entry.what for e in self._cache.journal.events_of(name) if e.entry.what.startswith(head)]
        return sorted({w.removeprefix(head).split(middle)[0] for w in told}, key=len, reverse=True)

    def add_trigger(self, names: Iterable[str] | None = None) -> EditResult:
        """Put the trigger word first in captions that another program wrote; author and status stay."""
        trigger = self.trigger
        chosen = list(self.all()) if names is None else list(names)
        with self._writing():
            steps = []
            for name in chosen:
                text = self._read(name)
                if text and not words.leads(text, trigger):
                    steps.append(self._kept(name, text, words.with_trigger(text, trigger)))
            return self._commit(f"trigger word added to {len(steps)}", PERSON, steps, [])

    def retrigger(self, old: str, new: str) -> EditResult:
        """After the trigger word changed: replace the leading `old` by `new` in every caption, as one undoable step.

        Captions that did not start with `old` get `new` in front; empty ones stay empty. Author and status stay.
        """
        with self._writing():
            steps = []
            for name in look(self.folder).pictures:
                text = self._read(name)
                if not text:
                    continue
                after = words.with_trigger(words.without_trigger(text, old), new)
                if after != text:
                    steps.append(self._kept(name, text, after))
            return self._commit(_RETRIGGERED.format(old, new), PERSON, steps, [])

    def rewrite(self, names: Iterable[str], what: str, change: words.Change) -> EditResult:
        """Write `change(text)` for captions that exist, keeping who wrote them; used by the one-click fixes."""
        with self._writing():
            steps = []
            for name in names:
                self._must_exist(name)
                text = self._read(name)
                if text is not None:
                    steps.append(self._kept(name, text, words.with_trigger(change(text), self.trigger)))
            return self._commit(what, PERSON, steps, [])

    def to_utf8(self, names: Iterable[str]) -> EditResult:
        """Write captions again as plain UTF-8, word for word; not a step of the history, since no word changes."""
        names = list(names)
        with self._writing():
            self._write([(n, text) for n in names if (text := self._read(n)) is not None])
        return EditResult(f"{len(names)} captions written as UTF-8", tuple(names))

    def undo(self) -> EditResult:
        """Take back the last edit. Captions that changed since then, or whose picture is gone, are left alone and
        reported in `skipped`. Does nothing when there is no edit. With a changed trigger word the project's goes back
        too, so that the trigger word leads every caption afterwards as before."""
        return self._with_its_trigger(self._again("undo"), back=True)

    def redo(self) -> EditResult:
        """Do the last undone edit again; like `undo`."""
        return self._with_its_trigger(self._again("redo"), back=False)

    def _with_its_trigger(self, result: EditResult, *, back: bool) -> EditResult:
        head, middle = _RETRIGGERED.split("{}")[:2]
        if not result.changed or not result.what.startswith(head) or middle not in result.what:
            return result
        old, _, new = result.what.removeprefix(head).partition(middle)
        now, wanted = (new, old) if back else (old, new)
        intent = self.project.intent
        if intent.trigger == now:
            self.project.save_intent(intent.model_copy(update={"trigger": wanted}))
            self.project.decided("trigger word changed", before=now, after=wanted)
        return result
