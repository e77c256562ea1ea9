"""What is wrong with a LoRA, why, and the next run prepared with one click; the tree of runs below it."""

from __future__ import annotations

import streamlit as st

from pages.parts.flash import act, say
from pages.parts.nav import link
from pages.parts.run_words import day
from pages.parts.words import plain
from studio.compare import Difference, differences
from studio.diagnosis import engine
from studio.diagnosis.lineage import Node, compared, drawn, lineage
from studio.diagnosis.rows import all_rows
from studio.evaluation.grid import Grid
from studio.project import Project
from studio.training.runs import Run, list_runs

PLACES = {"dataset": "Dataset", "captions": "Captions", "evaluation": "Evaluation", "setup": "Set-up"}
SHOWN = 5
"""Causes that are shown at once; the likeliest."""
CHANGES = 5
"""Changed settings that are named in the tree; the others stand in the comparison below it."""


def diagnosis(project: Project, grid: Grid) -> None:
    """What fits, each with its evidence and its changes; then any other symptom; then the tree."""
    run = engine.run_of(project, grid)
    found = engine.diagnose(project, grid, run)
    if not found and grid.metrics is None:
        st.info("The figures come when every picture is drawn. Until then mark faults on the pictures, or look up what you see below.",
                title="Nothing was measured yet", icon=":material/hourglass_empty:")  # fmt: skip
    elif not found:
        st.info("Mark faults on the pictures, or look up what you see below.", title="Nothing stands out",
                icon=":material/check_circle:")  # fmt: skip
    for one in found[:SHOWN]:
        _card(project, grid, run, one)
    shown = {one.row.id for one in found[:SHOWN]}
    others = {r.id: r.see for r in all_rows() if r.id not in shown}
    asked = st.selectbox(
        "Look up what you see",
        list(others),
        index=None,
        format_func=others.__getitem__,
        key="symptom",
        placeholder="Another symptom",
        width=520,
    )
    if asked:
        known = next((one for one in found if one.row.id == asked), None)
        _card(project, grid, run, known or engine.explain(project, asked, run, grid))
    st.space("small")
    tree(project)


def _prepare(project: Project, grid: Grid, run: Run | None, symptom: str) -> None:
    told = engine.prepare_next(project, [symptom], run, grid)
    words = "; ".join(
        f"{title} {before} → {after}" for title, before, after, _why in engine.in_words(told.changes)
    )
    say(
        f"The next run is prepared: {words}. {engine.back_words(told.back)}".strip(),
        undo=lambda: engine.undo_next(project),
    )


def _card(project: Project, grid: Grid, run: Run | None, one: engine.Diagnosis) -> None:
    row = one.row
    with st.container(border=True, gap="small", key=f"diagnosis_{row.id}"):
        badge = f"  :gray-badge[{one.basis}]" if row.basis != "literature" else ""
        st.markdown(f"**{row.see}**{badge}")
        if one.evidence:
            st.markdown("\n".join(f"- {sentence}" for sentence in one.evidence))
        left, right = st.columns(2, gap="large")
        with left:
            st.markdown(f":small[:gray[Why]]  \n{_joined(row.causes)}")
            st.markdown(f":small[:gray[Be sure]]  \n{row.confirm}")
        with right:
            st.markdown(f":small[:gray[Change]]  \n{row.fix}")
            if one.at_once:
                st.markdown(f":small[:gray[Now]]  \n{one.at_once}")
        if one.changes:
            st.table(
                [
                    {"Setting": t, "This run": a, "Next run": b, "Why": why}
                    for t, a, b, why in engine.in_words(one.changes)
                ],
                border="horizontal",
                hide_index=True,
            )
            if one.back:
                st.caption(engine.back_words(one.back))
        with st.container(horizontal=True, vertical_alignment="center"):
            if one.changes:
                st.button("Prepare the next run", key=f"prepare_{row.id}", icon=":material/build:", on_click=act,
                          args=(_prepare, project, grid, run, row.id), help="Stores these settings for the next run. It starts nothing, and can be undone.")  # fmt: skip
                link("config", "Look at the settings", icon=":material/tune:")
            if row.place in PLACES and row.place != "evaluation":
                link(
                    row.place,
                    f"Mend it on the {PLACES[row.place].lower()} page",
                    icon=":material/arrow_forward:",
                )
        seen = f"Seen here: {row.measured} " if row.measured else ""
        st.caption(f"{seen}Sources: {'; '.join(row.sources)}.")


def _joined(words: tuple[str, ...]) -> str:
    text = "; ".join(words)
    return f"{text[:1].upper()}{text[1:]}."


def _changed(runs: dict[str, Run], node: Node) -> list[Difference]:
    """What was changed for a run since the one that it came from."""
    if node.run not in runs or node.parent not in runs:
        return []
    return differences(runs[node.parent], runs[node.run])


def _node(depth: int, node: Node, name: str, changed: list[Difference]) -> None:
    """A run as a line of the tree, with what was changed for it below and what came out."""
    indent = "&emsp;" * 2 * depth
    mend = f" · to mend: {'; '.join(node.symptoms).lower()}" if node.symptoms else ""
    rated = f" · rated {node.rating:g}" if node.rating else ""
    lines = [
        f"{indent}:material/{'subdirectory_arrow_right' if node.parent else 'circle'}: **{name}** :gray[{node.state}{plain(mend, 300)}{rated}]"
    ]
    if changed:
        more = f" and {len(changed) - CHANGES} more" if len(changed) > CHANGES else ""
        told = "; ".join(f"{d.what} {d.before} → {d.after}" for d in changed[:CHANGES])
        lines.append(f"{indent}&emsp; :small[:gray[Changed: {plain(told, 400)}{more}]]")
    lines.append(
        f"{indent}&emsp; :small[{plain(node.verdict, 300) if node.verdict else 'Not evaluated yet'}]"
    )
    st.markdown("  \n".join(lines))


def tree(project: Project) -> None:
    """Which run came from which, and what came out; two runs compared."""
    nodes = lineage(project)
    if len(nodes) < 2:
        return
    runs = {r.id: r for r in list_runs(project)}
    names = {n.run: f"{day(n.created)} ({n.run.rpartition('-')[2]})" for n in nodes}
    st.markdown("**Which run came from which**")
    with st.container(gap="small", key="lineage"):
        for depth, node in drawn(nodes):
            _node(depth, node, names[node.run], _changed(runs, node))
    ids = [n.run for n in nodes][::-1]
    with st.container(horizontal=True):
        after = st.selectbox("Compare", ids, key="tree_after", format_func=names.__getitem__)
        parent = next((n.parent for n in nodes if n.run == after), "") or ids[-1]
        before = st.selectbox(
            "with", ids, index=ids.index(parent), key=f"tree_before_{after}", format_func=names.__getitem__
        )
    if not after or not before or before == after:
        return
    found, pictures = compared(runs[before], runs[after])
    if found:
        st.table([{"What": d.what, "Before": d.before, "After": d.after} for d in found], border="horizontal",
                 hide_index=True)  # fmt: skip
    for words, names in (
        ("Added", pictures.added),
        ("Taken out", pictures.removed),
        ("Captioned anew", pictures.recaptioned),
    ):
        if names:
            st.caption(f"{words}: {', '.join(names[:12])}{' and more' if len(names) > 12 else ''}")
    if not found and not pictures:
        st.caption("Nothing differs.")
