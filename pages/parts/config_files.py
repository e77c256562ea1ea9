"""The backend's own config files, each value explained; saving them, and taking over those of other programs."""

from __future__ import annotations

import re

import streamlit as st

from pages.parts.findings import show_findings
from pages.parts.flash import act, say
from pages.parts.form import shown
from pages.parts.nav import link
from pages.parts.page import caught
from studio import choices, gates
from studio.project import Project
from studio.settings import knobs
from studio.training.packing import zipped
from studio.training.sdscripts import options
from studio.training.sdscripts.importing import MOST_BYTES, Imported, read_text


def generated(project: Project) -> None:
    """The backend's own files, to read, to copy or to save; and the way in for files of other programs."""
    with caught():
        show_files(project)
    if choices.entry_of(project).family in options.SCRIPTS:
        st.space("small")
        with caught():
            take_over(project)


def show_files(project: Project) -> None:
    """Each file as text, and each of its values in words."""
    found = gates.native_files(project)
    if not found:
        st.info("They name your pictures, so add some first.", title="No files yet")
        link("dataset", "Add pictures")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            "What the engine will be given. Nothing to touch; save it to train elsewhere.",
            width="stretch",
        )
        st.download_button("Save all", zipped(found), file_name=f"{project.slug}-config.zip", key="save_all",
                           mime="application/zip", icon=":material/folder_zip:")  # fmt: skip
    texts = {n: t for n, t in found.items() if not n.endswith(".md")}
    words = {n: t for n, t in found.items() if n.endswith(".md")}
    for text in words.values():
        tables = [(title, rows) for title, rows in explained_tables(text) if rows]
        if not tables:
            continue  # what the built-in engine is given needs no words
        with st.expander("Each value explained", icon=":material/menu_book:", expanded=True, key="explained"):
            for title, rows in tables:
                st.markdown(title)
                st.table(rows, border="horizontal", hide_index=True)
    for name, text in texts.items():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{name}**", width="stretch")
            st.download_button("Save", text, file_name=name, key=f"save_{name}", type="tertiary",
                               icon=":material/download:", help=f"Save {name}")  # fmt: skip
        lines = text.count("\n") + 1
        st.code(
            text,
            language=name.rpartition(".")[2],
            height=360 if lines > 14 else "content",
            wrap_lines=name.endswith(".txt"),
        )


def explained_tables(text: str) -> list[tuple[str, list[dict[str, str]]]]:
    """The explanation as one table for each file: the option with its value, and why it says so."""
    found: list[tuple[str, list[dict[str, str]]]] = []
    for line in text.splitlines():
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if line.startswith("## "):
            found.append((f"**{line[3:]}**", []))
        elif found and line.startswith("| `") and len(cells) == 3:
            found[-1][1].append(
                {"Option": f"{cells[0]} = {cells[1]}", "Why": cells[2][:1].upper() + cells[2][1:]}
            )
    return found


def take_over(project: Project) -> None:
    """A config of sd-scripts or kohya_ss, shown before anything changes."""
    with st.container(border=True, key="take_over"):
        st.markdown("**Take over a config from elsewhere**")
        st.caption("A .toml of sd-scripts, or a .json that kohya_ss saved. You see what changes before it does; your pictures and "
                   "base model stay.")  # fmt: skip
        given = st.file_uploader("Config file", type=["toml", "json"], max_upload_size=1, key=f"import_{project.slug}",
                                 label_visibility="collapsed")  # fmt: skip
        if given is None:
            return
        with caught():
            choices.check_takes_configs(project)
            told = read_text(given.getvalue()[: MOST_BYTES + 1], given.name, choices.entry_of(project).family)
            show_import(project, told)


def show_import(project: Project, told: Imported) -> None:
    """What a file says: what becomes which setting, what stays behind and why; then one button."""
    show_findings(told.findings, key="import_findings")
    differing = choices.import_changes(project, told)
    sources: dict[str, list[str]] = {}
    for taken in told.taken:
        sources.setdefault(taken.setting, []).append(
            f"`{taken.name}`" if taken.name else ":gray[not in the file]"
        )
    count = len(differing)
    words = "1 setting changes" if count == 1 else f"{count or 'No'} settings change"
    st.markdown(f":material/description: **{given_words(told)}** {words}.")
    if differing:
        known = knobs()
        st.table(
            [
                {
                    "Setting": known[name].title,
                    "Now": shown(known[name], before),
                    "Then": "  \n".join(f"`{ln}`" for ln in after) if known[name].kind == "lines" else f"**{shown(known[name], after)}**",
                    "From": ", ".join(sources.get(name, [":gray[follows]"])),
                }
                for name, (before, after) in differing.items()
            ],
            border="horizontal",
            hide_index=True,
        )  # fmt: skip
    if told.left:
        count = len(told.left)
        title = f"{count} {'line stays' if count == 1 else 'lines stay'} behind, each with its reason"
        with st.expander(title, key="import_left", expanded=not differing):
            st.table([{"In the file": f"`{x.name}`", "Value": f"`{str(x.value)[:80]}`", "Why": x.why} for x in told.left],
                     border="horizontal", hide_index=True)  # fmt: skip
    if told.same:
        st.caption(
            f"{told.same} further {'line says' if told.same == 1 else 'lines say'} what would be so anyway."
        )
    st.button("Take over", key="import_apply", type="primary", icon=":material/input:", disabled=not differing, on_click=act,
              args=(store, project, told))  # fmt: skip


def given_words(told: Imported) -> str:
    """What the file is, as a sentence begins."""
    return f"{told.kind[0].upper() if told.kind[0] != 'k' else 'k'}{told.kind[1:]}."


def store(project: Project, told: Imported) -> None:
    """Take the settings over; the ones before can be had back."""
    before, follow = project.settings, project.repeats_follow
    choices.take_over(project, told)
    left = f" {len(told.left)} lines stayed behind." if told.left else ""
    say(
        f"The settings of the file were taken over.{left}",
        undo=lambda: choices.put_back(project, before, follow),
    )
