"""What every command needs: the workspace, the project that is meant, the output, and the question before a change."""

from __future__ import annotations

import os
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from studio.cli.output import Out
from studio.cli.values import did_you_mean
from studio.errors import EnvironmentalError, InputError, NotFoundError
from studio.project import Project, open_project
from studio.workspace import Workspace, default_home


def workspace_at(told: str | None) -> Workspace:
    """The workspace of `--home`, else of this user. Raises InputError or EnvironmentalError when it cannot be one."""
    if told is not None and not told.strip():
        raise InputError(
            "--home is empty.", "It names the workspace folder.", "Write --home FOLDER, or leave it out."
        )
    try:
        root = Path(told).expanduser().resolve() if told else default_home()
        nearest = root
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
    except (OSError, ValueError, RuntimeError) as e:
        raise InputError(
            f"'{told}' cannot be a workspace.", f"{e}.", "Give the path of a folder after --home."
        ) from e
    if not nearest.is_dir():
        raise InputError(
            f"'{root}' cannot be the workspace.",
            f"{nearest} is a file, not a folder.",
            "Give the path of a folder after --home, or set STUDIO_HOME to one.",
        )
    if not os.access(nearest, os.W_OK):
        raise EnvironmentalError(
            f"The workspace {root} cannot be written.",
            f"You may not write in {nearest}.",
            "Choose another folder with --home or STUDIO_HOME, or ask for the right to write there.",
        )
    return Workspace(root)


@dataclass
class Context:
    """One command at work."""

    workspace: Workspace
    out: Out
    args: Namespace

    def project(self) -> Project:
        """The project of `-p`, else the last one used.

        Raises NotFoundError when it does not exist (with the nearest name) or when there is none yet.
        """
        told = getattr(self.args, "project", None)
        if told is not None:
            return self.named(told)
        slugs = self.workspace.project_slugs()
        last = str(self.workspace.preferences().get("last_project", ""))
        if last in slugs:
            return Project(self.workspace, last)
        if len(slugs) == 1:
            return Project(self.workspace, slugs[0])
        if not slugs:
            raise NotFoundError(
                "There is no project yet.",
                f"The workspace {self.workspace.root} is empty.",
                "Make one with `lora-studio new NAME --kind style`, or try the sample with `lora-studio demo`.",
            )
        raise InputError(
            "Which project is meant?",
            "None was used last in this workspace.",
            f"Add -p SLUG, one of: {', '.join(slugs)}.",
        )

    def named(self, slug: str) -> Project:
        """A project by its short name, its untouched repeats fitted to the pictures there are now."""
        from studio.choices import follow_pictures

        wanted = slug.strip().lower().replace(" ", "-")
        try:
            project = open_project(self.workspace, wanted)
        except (NotFoundError, InputError):
            slugs = self.workspace.project_slugs()
            near = did_you_mean(wanted, slugs)
            known = (
                f"The projects are: {', '.join(slugs)}." if slugs else "Make one with `lora-studio new NAME`."
            )
            raise NotFoundError(
                f"There is no project called '{slug}'.",
                f"The workspace {self.workspace.root} does not hold it.",
                f"{near} {known}".strip(),
            ) from None
        follow_pictures(project)
        return project

    def agreed(self, question: str) -> bool:
        """Whether to apply a change that was just shown: `--yes`, or the answer on a terminal; otherwise no."""
        if getattr(self.args, "yes", False):
            return True
        answer = self.out.confirm(question)
        if answer is None:
            self.out.next("nothing was changed yet; add --yes to apply it.")
        elif not answer:
            self.out.say("Nothing was changed.")
        return bool(answer)
