"""The gallery of the dataset page: filters, tiles, choosing several, one picture large."""

from __future__ import annotations

import streamlit as st

from pages.parts.dataset_changes import PICKED, set_aside
from pages.parts.flash import act
from pages.parts.gallery import fit, paged, short, size_words
from pages.parts.previews import preview_url
from pages.parts.thumbs import thumb_url
from pages.parts.words import plain
from studio import guidance
from studio.dataset.buckets import bucket_preview, place
from studio.dataset.scan import Picture, Scan, scan
from studio.files import human_size
from studio.findings import Finding, by_harm
from studio.project import Project

SORTS = {"name": "Name", "small": "Smallest first", "blur": "Softest first", "bytes": "Largest file first"}
VIEW = "dataset_view"
"""Session state: which tab is open."""
TILE = 132  # narrowest tile, px


def show_only(finding: Finding) -> None:
    """Open the gallery with a finding's pictures only; copies stand side by side in a view of their own."""
    if finding.code.startswith("duplicate-"):
        st.session_state[VIEW] = "Duplicates"
        return
    st.session_state[VIEW] = "Gallery"
    st.session_state["by_finding"] = finding.code
    st.session_state["find"] = ""
    st.session_state["by_bucket"] = "all"
    st.session_state["gallery_page"] = 1


def follow_address(found: list[Finding]) -> None:
    """Open what a link asks for, such as one of the report: `?finding=small`. Once, so that filters stay free."""
    asked = st.query_params.get("finding")
    if asked is None:
        return
    del st.query_params["finding"]
    finding = next((f for f in found if f.code == asked), None)
    if finding is not None:
        show_only(finding)


def gallery(project: Project, seen: Scan, found: list[Finding]) -> None:
    """All pictures, a page at a time; several can be chosen."""
    pictures, names = chosen_pictures(project, seen, found)
    if not pictures:
        st.caption("No picture fits.")
        return
    shown, switch = paged(pictures, key="gallery_page")
    _chosen_bar(project, seen, names, [p.name for p in shown])
    worst = seen.facts.once(
        "worst", lambda: {n: f.severity for f in reversed(by_harm(found)) for n in f.where}, found
    )
    url = thumb_url(project, seen)
    with st.grid("auto", min_column_width=TILE, gap="small", vertical_alignment="bottom"):
        for picture in shown:
            _tile(project, picture, names, worst.get(picture.name, ""), url(picture.name))
    switch()


def _chosen_bar(project: Project, seen: Scan, names: list[str], page: list[str]) -> None:
    picked = [n for n in sorted(picked_names()) if seen.get(n) is not None]
    with st.container(horizontal=True, vertical_alignment="center", key="picked"):
        st.markdown(
            f"**{len(picked)} chosen**" if picked else ":gray[Tick pictures to set several aside at once]",
            width="stretch",
        )
        if picked:
            st.button("Choose none", key="pick_none", type="tertiary", on_click=_pick, args=(picked, False))
        if len(names) > len(page):
            st.button("Choose this page", key="pick_page", type="tertiary", on_click=_pick, args=(page, True))
        st.button(
            f"Choose all {len(names)}", key="pick_all", type="tertiary", on_click=_pick, args=(names, True)
        )
        st.button(f"Set aside ({len(picked)})" if picked else "Set aside", key="pick_aside", icon=":material/move_to_inbox:",
                  disabled=not picked, on_click=act, args=(set_aside, project, picked),
                  help="Out of the dataset, with its caption. You can put it back.")  # fmt: skip


def _tile(project: Project, picture: Picture, names: list[str], severity: str, url: str) -> None:
    with st.container(gap="xxsmall", key=f"tile_{picture.name}"):
        if picture.error:
            st.markdown(":red[:material/broken_image:] cannot be read")
        else:
            st.image(url, width="stretch", alt=picture.caption or picture.name)
        with st.container(horizontal=True, vertical_alignment="center", gap="xxsmall", wrap=False):
            key = f"pick_{picture.name}"
            st.session_state[key] = picture.name in picked_names()
            st.checkbox(
                f"Choose {picture.name}",
                key=key,
                label_visibility="collapsed",
                on_change=_toggle,
                args=(picture.name,),
            )
            flag = {"block": ":red[:material/block:] ", "warn": ":orange[:material/warning:] "}.get(
                severity, ""
            )
            if st.button(f"{flag}{short(picture.name)}", key=f"see_{picture.name}", type="tertiary",
                         help=f"{size_words(picture)} · {picture.caption or 'no caption yet'}"):  # fmt: skip
                st.session_state["large_at"] = names.index(picture.name)
                large(project, names, names.index(picture.name))


def chosen_pictures(project: Project, seen: Scan, found: list[Finding]) -> tuple[list[Picture], list[str]]:
    """The pictures that the filters let through, sorted; and their names."""
    marked = seen.facts.once("marked", lambda: _marked(seen, found), found)
    if st.session_state.get("by_finding", "all") not in ("all", *marked):
        st.session_state["by_finding"] = "all"  # what was looked at is mended
    buckets = {f"{b.width} × {b.height}": b for b in bucket_preview(seen, guidance.planned_settings(project))}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        query = st.text_input("Find", key="find", type="search", placeholder="Name or caption", live=True)
        by = st.selectbox("Show", ["all", *marked], key="by_finding",
                          format_func=lambda c: "All pictures" if c == "all" else plain(marked[c][0], 90))  # fmt: skip
        size = st.selectbox("Bucket", ["all", *buckets], key="by_bucket",
                            format_func=lambda b: "All sizes" if b == "all" else f"{b} ({len(buckets[b].names)})") if len(buckets) > 1 else "all"  # fmt: skip
        order = st.selectbox("Sort", list(SORTS), key="by_sort", format_func=lambda s: SORTS[s])

    def make() -> tuple[list[Picture], list[str]]:
        pictures = list(seen)
        if query:
            pictures = [p for p in pictures if query.lower() in f"{p.name} {p.caption}".lower()]
        if by != "all":
            pictures = [p for p in pictures if p.name in marked[by][1]]
        if size != "all":
            inside = set(buckets[size].names)
            pictures = [p for p in pictures if p.name in inside]
        keys = {"small": lambda p: p.pixels, "blur": lambda p: p.blur, "bytes": lambda p: -p.bytes}
        pictures = sorted(pictures, key=keys[order]) if order in keys else pictures
        return pictures, [p.name for p in pictures]

    return seen.facts.once("chosen", make, found, query, by, order, size and buckets.get(size))


def _marked(seen: Scan, found: list[Finding]) -> dict[str, tuple[str, set[str]]]:
    """What was noticed about pictures that are there: by its code, the sentence and the pictures."""
    marked: dict[str, tuple[str, set[str]]] = {}
    for f in by_harm(found):
        here = {n for n in f.where if seen.get(n) is not None}
        if here:
            what, names = marked.get(f.code, (f.what, set()))
            marked[f.code] = (what, names | here)
    return marked


def picked_names() -> frozenset[str]:
    """The pictures that are ticked."""
    found: frozenset[str] = st.session_state.get(PICKED, frozenset())
    return found


def _pick(names: list[str], on: bool) -> None:
    st.session_state[PICKED] = picked_names() | set(names) if on else picked_names() - set(names)


def _toggle(name: str) -> None:
    _pick([name], bool(st.session_state.get(f"pick_{name}")))


@st.dialog("Picture", width="medium")
def large(project: Project, names: list[str], at: int) -> None:
    """One picture, as large as it fits, with everything known about it."""
    at = int(st.session_state.setdefault("large_at", at)) % len(names)
    seen = scan(project)
    picture = seen.get(names[at])
    if picture is None:
        st.info("This picture is no longer in the dataset.")
        return
    if picture.error:
        st.warning(picture.error, title="It cannot be read")
    else:
        st.image(preview_url(project, picture), width=fit(picture, 640, 520), alt=picture.name)
    notes = [size_words(picture), human_size(picture.bytes), picture.format]
    if not picture.error:
        bucket = place(picture.width, picture.height, guidance.planned_settings(project))
        notes.append(f"trained at {bucket.bucket[0]} × {bucket.bucket[1]}")
    st.markdown(f"**{short(picture.name, 60)}**  \n:small[:gray[{' · '.join(notes)}]]")
    st.markdown(picture.caption or ":gray[No caption yet]")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Previous",
            key="large_prev",
            icon=":material/arrow_back:",
            on_click=_step,
            args=(-1,),
            shortcut="Left",
        )
        st.button(
            "Next",
            key="large_next",
            icon=":material/arrow_forward:",
            on_click=_step,
            args=(1,),
            shortcut="Right",
        )
        st.caption(f"{at + 1} of {len(names)}", width="stretch")
        if st.button("Set aside", key="large_aside", icon=":material/move_to_inbox:"):
            act(set_aside, project, [picture.name])
            st.rerun()


def _step(by: int) -> None:
    st.session_state["large_at"] = int(st.session_state.get("large_at", 0)) + by
