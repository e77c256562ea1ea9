"""How often each picture is shown in an epoch, and which pictures are there for regularisation.

Two numbers decide how often: the picture's own repeats (kohya's `N_name` folders, or set by the user) times the
setting `repeats`. Regularisation pictures show what the base model already makes of the class; they are shown, all
together, as often as the training pictures are, neither more nor less: what is too many is left out, what is too few
is shown again. The arithmetic is that of sd-scripts (`DreamBoothDataset.__init__`, library/train_util.py v0.10.1), so
that its numbers of steps and those of the built-in trainer agree. The setting `repeats` does not multiply
regularisation pictures: it would only leave more of them out.

Whether regularisation helps is contested. Ruiz et al. 2022 (DreamBooth, arXiv 2208.12242) need it against drift of the
class; trainers' users report both better faces and pictures that pull the subject away.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.captions.text import without_trigger
from studio.dataset import origins
from studio.dataset.buckets import bucket_preview, place
from studio.dataset.folder import dataset_lock, look
from studio.errors import InputError, NotFoundError
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.captions.store import Caption
    from studio.dataset.scan import Scan
    from studio.project import Project
    from studio.settings import TrainingSettings

MOST_REPEATS = 1000


@dataclass(frozen=True)
class Subset:
    """Pictures that are shown alike: one `N_name` folder of kohya's, one `[[datasets.subsets]]` of sd-scripts.

    repeats: `num_repeats` of sd-scripts, the setting `repeats` included.   regularisation: `is_reg`.
    names:   in order.
    """

    repeats: int
    regularisation: bool
    names: tuple[str, ...]


def subsets_of(
    names: Iterable[str], own: Mapping[str, int], regularisation: set[str] | frozenset[str], repeats: int
) -> list[Subset]:
    """Subsets of pictures, those that teach first, by rising repeats.

    own: repeats of single pictures; 1 for one that is not in it.   repeats: the setting.
    """
    found: dict[tuple[bool, int], list[str]] = {}
    for name in sorted(names):
        extra = name in regularisation
        found.setdefault((extra, own.get(name, 1) * (1 if extra else repeats)), []).append(name)
    return [Subset(n, extra, tuple(found[extra, n])) for extra, n in sorted(found)]


def project_subsets(
    project: Project, settings: TrainingSettings, names: Iterable[str] | None = None
) -> list[Subset]:
    """The subsets that training would form of a project's pictures. names: those that can be read; None: all."""
    chosen = look(project.dataset_dir).pictures if names is None else names
    roles = origins.roles(project)
    return subsets_of(chosen, roles.repeats, roles.regularisation, settings.repeats)


def times_shown(subsets: Sequence[Subset]) -> dict[str, int]:
    """How often each picture is shown in an epoch. Regularisation pictures that are left out are not in the answer.

    They are taken in order until they make up the training pictures; when all of them together do not, each is shown
    once more, in order, until they do.
    """
    shown = {n: s.repeats for s in subsets if not s.regularisation for n in s.names}
    wanted = sum(shown.values())
    extra: dict[str, int] = {}
    have = 0
    for name, repeats in ((n, s.repeats) for s in subsets if s.regularisation for n in s.names):
        if have >= wanted:
            break
        extra[name] = repeats
        have += repeats
    if extra and have < wanted:
        each, rest = divmod(wanted - have, len(extra))
        for i, name in enumerate(extra):
            extra[name] += each + (i < rest)
    return shown | extra


@dataclass(frozen=True)
class BucketSteps:
    """One bucket of an epoch.

    names:   its pictures that are shown, regularisation pictures among them.
    shown:   how often they are shown in all.   batches: batches that makes.
    last:    pictures in the last batch; fewer than the batch size when it is not full.
    """

    width: int
    height: int
    names: tuple[str, ...]
    shown: int
    batches: int
    last: int


def bucket_steps(project: Project, seen: Scan, settings: TrainingSettings) -> list[BucketSteps]:
    """The buckets of an epoch with their batches, smallest bucket first; [] when no picture teaches.

    A batch never mixes buckets, so each bucket with a remainder has a batch that is not full.
    """
    size = settings.batch_size
    return [
        BucketSteps(width, height, names, shown, -(-shown // size), (shown - 1) % size + 1)
        for width, height, names, shown in _shown_in(project, seen, settings)
    ]


def _shown_in(
    project: Project, seen: Scan, settings: TrainingSettings
) -> list[tuple[int, int, tuple[str, ...], int]]:
    """Of each bucket its size, the pictures that are shown, and how often in all; kept while the pictures, what they
    are for and the settings of buckets stay: placing ten thousand pictures takes a second."""
    roles = origins.roles(project)

    def make() -> list[tuple[int, int, tuple[str, ...], int]]:
        _, times = shown_subsets(project, seen, settings)
        found = []
        for bucket in bucket_preview(seen, settings):
            chosen = tuple(sorted(n for n in bucket.names if n in times))
            if chosen:
                found.append((bucket.width, bucket.height, chosen, sum(times[n] for n in chosen)))
        return found

    return seen.shown.each("shown in buckets", make, roles, settings.repeats, *_numbers(settings))


def shown_subsets(
    project: Project, seen: Scan, settings: TrainingSettings
) -> tuple[list[Subset], Mapping[str, int]]:
    """The subsets of the readable pictures, and how often an epoch shows each (`times_shown`); kept like `_shown_in`."""
    roles = origins.roles(project)

    def make() -> tuple[list[Subset], Mapping[str, int]]:
        names = [p.name for p in seen.pictures if p.error is None]
        groups = subsets_of(names, roles.repeats, roles.regularisation, settings.repeats)
        return groups, times_shown(groups)

    return seen.shown.each("shown", make, roles, settings.repeats)


def _numbers(settings: TrainingSettings) -> tuple[object, ...]:
    """What of the settings decides about buckets."""
    return settings.resolution, settings.bucket_step, settings.bucket_no_upscale, settings.buckets


@dataclass(frozen=True)
class Cropped:
    """Pictures, the most cropped first, each with the share of its area that remains, 0 to 1."""

    pictures: tuple[tuple[str, float], ...]

    def below(self, share: float) -> int:
        """How many keep less than `share` of their area."""
        return bisect_left(self.pictures, share, key=lambda p: p[1])


def most_cropped(
    project: Project, seen: Scan, settings: TrainingSettings, bucket: tuple[int, int] | None = None
) -> Cropped:
    """The pictures of a bucket (of all when None) that an epoch shows, the most cropped first; kept like `_shown_in`."""
    shown = _shown_in(project, seen, settings)

    def make() -> dict[tuple[int, int] | None, Cropped]:
        found: dict[tuple[int, int] | None, Cropped] = {}
        every: list[tuple[str, float]] = []
        for width, height, names, _ in shown:
            some = [(p.name, place(p.width, p.height, settings).kept) for n in names if (p := seen.get(n))]
            found[width, height] = Cropped(tuple(sorted(some, key=lambda s: (s[1], s[0]))))
            every += some
        found[None] = Cropped(tuple(sorted(every, key=lambda s: (s[1], s[0]))))
        return found

    given = (origins.roles(project), settings.repeats, *_numbers(settings))
    return seen.shown.once("most cropped", make, *given).get(bucket, Cropped(()))


def shown_per_bucket(project: Project, seen: Scan, settings: TrainingSettings) -> list[int]:
    """Pictures shown in an epoch in each bucket, repeats and regularisation included; [] when none teaches."""
    return [b.shown for b in bucket_steps(project, seen, settings)]


def teaching_count(project: Project) -> int:
    """Training pictures in an epoch before the setting `repeats`: own repeats counted, regularisation left out. What
    presets choose their repeats by."""
    return origins.roles(project).teaching


def taught_caption(text: str, trigger: str, regularisation: bool) -> str:
    """The caption that training hears. A regularisation picture is taught without the trigger word, whatever its file
    says: its purpose is to keep the class apart from the word."""
    return without_trigger(text, trigger) if regularisation else text


# ---------------------------------------------------------------- what the user decides


def mark_regularisation(project: Project, names: Iterable[str], on: bool = True) -> list[str]:
    """Say that pictures are for regularisation, or no longer; the names that changed.

    Raises NotFoundError when a picture does not exist (nothing is changed then), BusyError.
    """
    with dataset_lock(project):
        chosen = _there(project, names)
        changed = origins.change(project, chosen, regularisation=on)
    if changed:
        project.decided("regularisation pictures", pictures=changed, regularisation=on)
    return changed


def marked_at_import(names: Iterable[str]) -> list[Finding]:
    """What to say of pictures that an import marked because of their folder's name; [] for none."""
    marked = tuple(names)
    if not marked:
        return []
    return [
        Finding(
            severity="info",
            code="regularisation-marked",
            what=f"{len(marked)} picture{'s are' if len(marked) > 1 else ' is'} used for regularisation.",
            why="The folder is called so. They keep the base model's own idea of the class and teach nothing new.",
            fix="If they show what you teach, use them for training instead: the tab Variety changes it at any time.",
            where=marked,
        )
    ]


def set_repeats(project: Project, names: Iterable[str], repeats: int) -> list[str]:
    """Give pictures repeats of their own, 1 to MOST_REPEATS, as a kohya folder `N_name` would; the names that changed.

    Raises InputError for another number, NotFoundError when a picture does not exist, BusyError.
    """
    if not 1 <= repeats <= MOST_REPEATS:
        raise InputError(
            f"A picture cannot be repeated {repeats} times.",
            "Repeats say how often it is shown in one epoch.",
            f"Use a whole number from 1 to {MOST_REPEATS}.",
        )
    with dataset_lock(project):
        changed = origins.change(project, _there(project, names), repeats=repeats)
    if changed:
        project.decided("repeats of pictures", pictures=changed, repeats=repeats)
    return changed


def _there(project: Project, names: Iterable[str]) -> list[str]:
    chosen = list(dict.fromkeys(names))
    there = look(project.dataset_dir).pictures
    missing = [n for n in chosen if n not in there]
    if missing:
        raise NotFoundError(
            f"There is no picture called '{missing[0]}' in this project."
            + (f" {len(missing) - 1} more are missing too." if len(missing) > 1 else ""),
            "It was set aside, renamed or never imported.",
            "Look at the dataset page, or `lora-studio audit`, for the pictures that are there.",
        )
    return chosen


def subset_findings(
    project: Project, settings: TrainingSettings, captions: Mapping[str, Caption]
) -> list[Finding]:
    """What is odd about repeats and regularisation; [] in a project that uses neither."""
    if not origins.roles(project).regularisation:
        return []
    groups = project_subsets(project, settings)
    extra = [n for s in groups if s.regularisation for n in s.names]
    taught = sum(s.repeats * len(s.names) for s in groups if not s.regularisation)
    found = []
    if not taught:
        return [
            Finding(
                severity="block",
                code="only-regularisation",
                what="All pictures are marked as regularisation pictures.",
                why="They only hold the base model in place; nothing would be taught.",
                fix="Take the mark off the pictures that show what you teach.",
                where=tuple(extra),
            )
        ]
    shown = times_shown(groups)
    unused = [n for n in extra if n not in shown]
    if unused:
        found.append(
            Finding(
                severity="warn",
                code="regularisation-unused",
                what=f"{len(unused)} of {len(extra)} regularisation pictures are not used.",
                why=f"An epoch shows as many of them as training pictures, which is {taught} with repeats.",
                fix="Raise the repeats of the training pictures, or leave it so: the first ones by name are used.",
                where=tuple(unused),
            )
        )
    bare = [n for n in extra if not taught_caption(_text(captions, n), project.intent.trigger, True).strip()]
    if bare:
        found.append(
            Finding(
                severity="warn",
                code="regularisation-no-caption",
                what=f"{len(bare)} regularisation pictures have no caption besides the trigger word.",
                why="Without the word of the class, such as 'woman' or 'dog', they hold nothing in particular in place.",
                fix="Caption them with the class and what else is to be seen; the trigger word is left out in training.",
                where=tuple(bare),
            )
        )
    return found


def _text(captions: Mapping[str, Caption], name: str) -> str:
    caption = captions.get(name)
    return caption.text if caption else ""


REGULARISATION = (
    "Regularisation pictures show other things of the same class, such as other women or other dogs, as the base model "
    "itself draws them. They are trained along without the trigger word, so that the class stays what it was.",
    "An epoch shows as many of them as training pictures, repeats counted. More are not used, fewer are shown again. "
    "They make an epoch twice as long.",
    "Whether they help is contested. The method that brought them needs them for subjects learned by a whole model; "
    "for LoRAs some report better faces, others that they pull the result away. For a style they are rarely used. "
    "Try without first; if you use them, a weight of 0.2 to 0.3 is gentler.",
    "They must not show what you teach. Best are pictures that the base model drew for the word of the class.",
)
"""What they are, how many count, whether they help, which are good: in words, for the app and the command line."""


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Names that a pattern such as `reg_*.png` fits; `*` stands for anything, `?` for one character."""
    from fnmatch import translate

    fits = re.compile(translate(pattern.strip()), re.IGNORECASE).match
    return [n for n in names if fits(n)]
