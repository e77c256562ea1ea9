"""The dataset: pictures come in, the studio says what to mend, and each finding can be mended where it stands."""

from collections import Counter
from pathlib import Path

import streamlit as st

from pages.parts.context import advanced, require_project
from pages.parts.findings import show_findings
from pages.parts.flash import act, say
from pages.parts.gallery import crop_svg, fit, paged, short, size_words, thumbs
from pages.parts.live_job import is_running, live_job
from pages.parts.next import go_on, what_next
from pages.parts.page import caught, page
from studio import gates, guidance
from studio.captions.store import CaptionStore
from studio.dataset.buckets import bucket_preview, place
from studio.dataset.duplicates import DuplicateGroup, find_duplicates, resolve
from studio.dataset.gate import FIXES, fix_finding
from studio.dataset.intake import import_uploads
from studio.dataset.report import dataset_report
from studio.dataset.scan import Picture, Scan, remove_pictures, restore_pictures, scan, set_aside_list
from studio.dataset.tasks import start_import, start_scan
from studio.errors import InputError
from studio.files import human_size
from studio.findings import Finding, blocking, by_harm, summary
from studio.guidance import about_captions, count_words
from studio.jobs.job import Job, list_jobs
from studio.models import get_model
from studio.project import KINDS, Project

AT_ONCE = 60  # pictures that are looked at while the page waits; more are a job
SETS_ASIDE = ("set-aside", "keep-best")
SORTS = {"name": "Name", "small": "Smallest first", "blur": "Softest first", "bytes": "Largest file first"}
GALLERY_HEIGHT = 132


# --- bringing pictures in


def take_uploads(project: Project, key: str) -> None:
    """Store what the browser sent, at once, and empty the drop zone."""
    sent = st.session_state.get(key) or []
    if not sent:
        return
    with st.spinner(f"Taking in {count_words(len(sent), 'file')}"):
        report = import_uploads(project, [(f.name, f.getvalue()) for f in sent])
        if guidance.unseen(project) <= AT_ONCE:
            scan(project)  # before anything is drawn, so that the step bar above knows it already
    st.session_state["drop_round"] = st.session_state.get("drop_round", 0) + 1
    say(report.words, findings=report.refused)


def take_folder(project: Project) -> None:
    """Import a folder, a ZIP or a file of this computer, as a job."""
    typed = str(st.session_state.get("folder_path", "")).strip().strip("\"'")
    if not typed:
        raise InputError(
            "No folder was given.",
            "The field is empty.",
            "Type or paste the path of a folder, a ZIP or a picture.",
        )
    start_import(project, [Path(typed)])
    st.session_state["folder_path"] = ""


def bring_in(project: Project, *, first: bool) -> None:
    """The drop zone and the folder path."""
    kind = KINDS[project.intent.kind]
    low, high = kind["images"]
    if first:
        st.subheader(f"Add {low} to {high} pictures", anchor=False)
        st.markdown(f":gray[{kind['why']}]")
    key = f"drop_{st.session_state.get('drop_round', 0)}"
    st.file_uploader(
        "Drop pictures here, or choose them",
        accept_multiple_files=True,
        key=key,
        on_change=act,
        args=(take_uploads, project, key),
        help="Pictures (PNG, JPEG, WebP, AVIF, HEIC, TIFF ...), their captions as .txt of the same name, or ZIP files.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Or type where a folder or ZIP lies on this computer",
            key="folder_path",
            placeholder=str(Path("Pictures") / "my-pictures"),
            help="For many pictures. Everything inside, also in subfolders, is copied; the originals stay as they are.",
        )
        st.button(
            "Import",
            key="folder_go",
            icon=":material/drive_folder_upload:",
            on_click=act,
            args=(take_folder, project),
        )
    st.caption(
        ":material/lock: Your files are copied into the project. The originals are only read, and nothing leaves this computer."
    )


def busy_job(project: Project) -> Job | None:
    """The import or scan that is going on, if there is one."""
    for job in list_jobs(project.jobs_dir)[:8]:
        if job.spec.kind in ("import", "scan") and is_running(job):
            return job
    return None


def ended_job(project: Project) -> None:
    """Say once what the import that just ended has done."""
    known: set[str] = st.session_state.setdefault("told_jobs", set())
    watched = st.session_state.get("watched_job")
    if not watched or watched in known:
        return
    job = next((j for j in list_jobs(project.jobs_dir)[:8] if j.id == watched), None)
    if job is None or is_running(job):
        return
    known.add(watched)
    st.session_state.pop("watched_job", None)
    told = job.result if isinstance(job.result, dict) else {}
    error = job.error
    if error:
        st.error(
            f"{error.get('why', '')} {error.get('fix', '')}".strip(),
            title=str(error.get("what")),
            icon=":material/error:",
        )
    elif told.get("words"):
        say(str(told["words"]), findings=[Finding.model_validate(f) for f in told.get("refused", [])])
        st.rerun()


# --- mending


def mend(project: Project, finding: Finding) -> None:
    """Do a finding's one-click remedy, and offer the way back."""
    changed = fix_finding(project, finding.action, finding.where)
    if not changed:
        say("Nothing was left to change.")
    elif finding.action in SETS_ASIDE:
        aside(project, changed)
    elif finding.action == "rename":
        say(f"{count_words(len(changed), 'picture')} renamed.")
    else:
        store = CaptionStore(project)
        undo = None if finding.action == "to-utf8" else lambda: unwrite(project)
        say(
            f"{FIXES[finding.action]}: {count_words(len(changed), 'caption')}.",
            undo=undo if store.can_undo else None,
        )


def unwrite(project: Project) -> None:
    """Take back the last change of captions."""
    done = CaptionStore(project).undo()
    say(f"Undone: {done.what}.", findings=list(done.skipped))


def aside(project: Project, names: list[str]) -> None:
    """Say that pictures were set aside, with the way back."""
    say(f"{count_words(len(names), 'picture')} set aside.", undo=lambda: bring_back(project, names))


def bring_back(project: Project, names: list[str]) -> None:
    """Put pictures that were set aside into the dataset again."""
    back = restore_pictures(project, names)
    say(f"{count_words(len(back), 'picture')} put back.")


def set_aside(project: Project, names: list[str]) -> None:
    """Take pictures out of the dataset."""
    gone = remove_pictures(project, names, "by hand")
    for name in gone:
        st.session_state.pop(f"pick_{name}", None)
    aside(project, gone)


def keep(project: Project, group: DuplicateGroup, name: str) -> None:
    """Keep one of a group of duplicates."""
    aside(project, resolve(project, group, name))


# --- what is there


def numbers(seen: Scan, found: list[Finding], groups: list[DuplicateGroup], buckets: int) -> None:
    """The row of numbers."""
    captioned = sum(bool(p.caption) for p in seen)
    copies = sum(len(g.names) - 1 for g in groups)
    told = (
        ("Pictures", str(len(seen))),
        ("Captioned", f"{captioned} of {len(seen)}"),
        ("To mend", str(len(blocking(found)))),
        ("Duplicates", str(copies)),
        ("Buckets", str(buckets)),
    )
    with st.grid(len(told), min_column_width=118):
        for label, value in told:
            st.metric(label, value, border=True)


def show_noticed(project: Project, seen: Scan, found: list[Finding]) -> None:
    """All findings, the most harmful first."""
    if not found:
        st.success("Every picture opens, has a caption that starts with the trigger word, and is there once.",
                   title="Nothing to mend", icon=":material/check_circle:")  # fmt: skip
        return
    st.subheader(f"What the studio noticed: {summary(found)}", anchor=False)
    loud = [f for f in by_harm(found) if f.severity != "info"]
    quiet = [f for f in found if f.severity == "info"]
    small = thumbs(seen)
    fix = lambda f: mend(project, f)  # noqa: E731
    show_findings(loud, key="noticed", labels=FIXES, on_action=fix, thumb=small, limit=5)
    if quiet:
        with st.expander(f"Good to know ({len(quiet)})", icon=":material/info:", key="quiet"):
            show_findings(quiet, key="quietly", labels=FIXES, on_action=fix, thumb=small)


# --- tabs


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
        st.image(str(seen.folder / picture.name), width=fit(picture, 640, 520), alt=picture.name)
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


def chosen_pictures(project: Project, seen: Scan, found: list[Finding]) -> list[Picture]:
    """The pictures that the filters let through, sorted."""
    marked = {f.code: f for f in by_harm(found) if f.where and any(seen.get(n) for n in f.where[:1])}
    buckets = {f"{b.width} × {b.height}": b for b in bucket_preview(seen, guidance.planned_settings(project))}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        query = st.text_input("Find", key="find", type="search", placeholder="Name or caption", live=True)
        by = st.selectbox("Show", ["all", *marked], key="by_finding",
                          format_func=lambda c: f"All pictures ({len(seen)})" if c == "all" else marked[c].what)  # fmt: skip
        size = st.selectbox("Bucket", ["all", *buckets], key="by_bucket",
                            format_func=lambda b: "All sizes" if b == "all" else f"{b} ({len(buckets[b].names)})") if len(buckets) > 1 else "all"  # fmt: skip
        order = st.selectbox("Sort", list(SORTS), key="by_sort", format_func=lambda s: SORTS[s])
    pictures = list(seen)
    if query:
        pictures = [p for p in pictures if query.lower() in f"{p.name} {p.caption}".lower()]
    if by != "all":
        pictures = [p for p in pictures if p.name in set(marked[by].where)]
    if size != "all":
        pictures = [p for p in pictures if p.name in set(buckets[size].names)]
    keys = {"small": lambda p: p.pixels, "blur": lambda p: p.blur, "bytes": lambda p: -p.bytes}
    return sorted(pictures, key=keys[order]) if order in keys else pictures


def gallery(project: Project, seen: Scan, found: list[Finding]) -> None:
    """All pictures, a page at a time; several can be chosen."""
    pictures = chosen_pictures(project, seen, found)
    if not pictures:
        st.caption("No picture fits.")
        return
    shown, switch = paged(pictures, key="gallery_page")
    picked = [p.name for p in seen if st.session_state.get(f"pick_{p.name}")]
    with st.container(horizontal=True, vertical_alignment="center", key="picked"):
        st.markdown(
            f"**{len(picked)} chosen**" if picked else ":gray[Tick pictures to set several aside at once]",
            width="stretch",
        )
        if picked:
            st.button("Choose none", key="pick_none", type="tertiary", on_click=_pick, args=(picked, False))
        st.button(
            "Choose this page",
            key="pick_page",
            type="tertiary",
            on_click=_pick,
            args=([p.name for p in shown], True),
        )
        st.button("Set aside", key="pick_aside", icon=":material/move_to_inbox:", disabled=not picked, on_click=act,
                  args=(set_aside, project, picked), help="Out of the dataset, with its caption. You can put it back.")  # fmt: skip
    names = [p.name for p in pictures]
    worst = {n: f.severity for f in reversed(by_harm(found)) for n in f.where}
    with st.grid("auto", min_column_width=GALLERY_HEIGHT, gap="small", vertical_alignment="bottom"):
        for picture in shown:
            with st.container(gap="xxsmall", key=f"tile_{picture.name}"):
                if picture.error:
                    st.markdown(":red[:material/broken_image:] cannot be read")
                else:
                    st.image(str(picture.thumb), width="stretch", alt=picture.caption or picture.name)
                with st.container(horizontal=True, vertical_alignment="center", gap="xxsmall", wrap=False):
                    st.checkbox(
                        f"Choose {picture.name}", key=f"pick_{picture.name}", label_visibility="collapsed"
                    )
                    flag = {"block": ":red[:material/block:] ", "warn": ":orange[:material/warning:] "}.get(
                        worst.get(picture.name, ""), ""
                    )
                    if st.button(f"{flag}{short(picture.name)}", key=f"see_{picture.name}", type="tertiary",
                                 help=f"{size_words(picture)} · {picture.caption or 'no caption yet'}"):  # fmt: skip
                        st.session_state["large_at"] = names.index(picture.name)
                        large(project, names, names.index(picture.name))
    switch()


def _pick(names: list[str], on: bool) -> None:
    for name in names:
        st.session_state[f"pick_{name}"] = on


def duplicates(project: Project, seen: Scan, groups: list[DuplicateGroup]) -> None:
    """Groups of the same picture, side by side."""
    if not groups:
        st.markdown(":green[:material/check:] No picture is there twice.")
        return
    st.caption("Repeated pictures are learned by heart instead of teaching something new. Keep the best of each group; the "
               "others are set aside, not deleted.")  # fmt: skip
    some, switch = paged(groups, key="duplicates_page", per_page=6)
    for group in some:
        with st.container(border=True, key=f"group_{group.names[0]}"):
            kind = (
                "The same picture, saved more than once"
                if group.kind == "exact"
                else f"Nearly the same ({group.likeness:.0%} alike)"
            )
            st.markdown(f"**{kind}**")
            with st.grid("auto", min_column_width=190):
                for name in group.names:
                    picture = seen.get(name)
                    if picture is None:
                        continue
                    best = name == group.suggested_keep
                    with st.container(gap="xsmall", key=f"twin_{name}"):
                        st.image(str(picture.thumb), width="stretch", alt=name)
                        badge = f" :green-badge[suggested: {group.why}]" if best else ""
                        st.markdown(f"{short(name, 28)}{badge}")
                        st.caption(
                            f"{size_words(picture)} · {human_size(picture.bytes)}  \n{picture.caption or 'no caption'}"
                        )
                        st.button("Keep this one", key=f"keep_{name}", icon=":material/check:" if best else None, on_click=act,
                                  args=(keep, project, group, name))  # fmt: skip
    switch()


def buckets_tab(project: Project, seen: Scan) -> None:
    """Into which size each picture is scaled, and what is cut off."""
    settings = guidance.planned_settings(project)
    buckets = bucket_preview(seen, settings)
    st.caption(f"Pictures are scaled to about the area of {settings.resolution} × {settings.resolution} pixels and grouped by shape. "
               "What lies outside of the line is cut off.")  # fmt: skip
    if not buckets:
        st.caption("No picture can be read yet.")
        return
    most = max(len(b.names) for b in buckets)
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.dataframe(
            [{"Size": f"{b.width} × {b.height}", "Pictures": len(b.names)} for b in buckets],
            column_config={
                "Pictures": st.column_config.ProgressColumn(min_value=0, max_value=most, format="%d")
            },
            hide_index=True,
            alt="Pictures per bucket",
        )
        chosen = st.selectbox("Show the bucket", range(len(buckets)), key="bucket",
                              format_func=lambda i: f"{buckets[i].width} × {buckets[i].height}")  # fmt: skip
    with right:
        names, switch = paged(buckets[chosen].names, key=f"bucket_page_{chosen}", per_page=9)
        with st.grid(3, min_column_width=110):
            for name in names:
                picture = seen.get(name)
                if picture is not None:
                    kept = place(picture.width, picture.height, settings).kept
                    with st.container(gap="xxsmall", key=f"crop_{name}"):
                        st.image(
                            crop_svg(picture, settings), width="stretch", alt=f"{name}, what is trained of it"
                        )
                        st.caption(f"{short(name)} · {kept:.0%} kept")
        switch()


def aside_tab(project: Project) -> None:
    """What was set aside, with its way back."""
    gone = set_aside_list(project)
    if not gone:
        st.caption("Nothing was set aside.")
        return
    st.button(f"Put all {len(gone)} back", key="back_all", icon=":material/undo:", on_click=act,
              args=(bring_back, project, [g.file for g in gone]))  # fmt: skip
    some, switch = paged(gone, key="aside_page", per_page=12)
    with st.grid("auto", min_column_width=190):
        for item in some:
            with st.container(border=True, gap="xsmall", key=f"aside_{item.file}"):
                with caught():
                    small_picture(project, item.path)
                st.markdown(short(item.name, 28))
                st.caption(item.reason or "by hand")
                st.button(
                    "Put back", key=f"back_{item.file}", on_click=act, args=(bring_back, project, [item.file])
                )
    switch()


def small_picture(project: Project, path: Path) -> None:
    """A picture that may not be readable."""
    try:
        st.image(str(path), width=140, alt=path.name)
    except Exception:  # noqa: BLE001  the decoder's own errors: that is why it was set aside
        st.markdown(":red[:material/broken_image:] cannot be read")


def report_tab(project: Project) -> None:
    """Gate 1: the dataset report."""
    status = gates.state(project, "dataset")
    look = {
        "passed": ("green", "GO"),
        "blocked": ("red", "NO-GO"),
        "stale": ("orange", "out of date"),
        "missing": ("gray", "not checked yet"),
    }
    colour, word = look.get(status.state, ("gray", status.state))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Gate 1: dataset** :{colour}-badge[{word}]  \n:small[:gray[{status.purpose}]]", width="stretch"
        )
        st.button("Check now" if status.verdict is None else "Check again", key="gate_1", icon=":material/fact_check:",
                  on_click=act, args=(check, project))  # fmt: skip
    text = dataset_report(project)
    with st.container(border=True):
        st.markdown(
            text.replace("\n# ", "\n### ").replace("# Dataset", "### Dataset", 1).replace("\n## ", "\n#### "),
            anchors=False,
        )
    st.download_button(
        "Save the report",
        text,
        file_name=f"{project.slug}-dataset.md",
        key="save_report",
        icon=":material/download:",
    )


def check(project: Project) -> None:
    """Run gate 1."""
    said = gates.run_gate(project, "dataset")
    say(f"Gate 1 says {said.words}.")


def tabs(project: Project, seen: Scan, found: list[Finding], groups: list[DuplicateGroup]) -> None:
    """The views of the dataset; only the open one is drawn."""
    gone = len(set_aside_list(project))
    copies = f"Duplicates ({len(groups)})" if groups else "Duplicates"
    names = ["Gallery", copies, "Buckets", f"Set aside ({gone})" if gone else "Set aside", "Report"]
    views = st.tabs(names, key="dataset_view", on_change="rerun")
    for view, draw in zip(
        views,
        (
            lambda: gallery(project, seen, found),
            lambda: duplicates(project, seen, groups),
            lambda: buckets_tab(project, seen),
            lambda: aside_tab(project),
            lambda: report_tab(project),
        ),
        strict=True,
    ):
        if view.open:
            with view, caught():
                draw()


# --- the page


def overview(project: Project) -> None:
    """Everything about a dataset that has pictures."""
    with st.spinner("Looking at the pictures"):
        seen = scan(project)
        found = guidance.findings(project)
        groups = find_duplicates(seen)
    numbers(seen, found, groups, len(bucket_preview(seen, guidance.planned_settings(project))))
    show_noticed(project, seen, found)
    with st.expander("Add more pictures", icon=":material/add_photo_alternate:", key="add_more"):
        bring_in(project, first=False)
    tabs(project, seen, found, groups)
    st.space("small")
    bad = [f for f in blocking(found) if not about_captions(f)]
    words = Counter(about_captions(f) for f in blocking(found))
    go_on(
        "captions",
        "Go on to the captions",
        blocked=f"{count_words(len(bad), 'finding')} above must be mended first." if bad else "",
    )
    what_next(
        f"You check the words that go with each picture{', and mend ' + count_words(words[True], 'finding') + ' there' if words[True] else ''}.",
        "Then you choose how to train. Nothing has been spent so far, and nothing is final.",
    )
    if advanced():
        st.caption(
            f"`{project.dataset_dir}` · {get_model(project.workspace, project.intent.base_model).title}"
        )


project = require_project()
with page(
    "Dataset",
    "The pictures that the LoRA learns from. Few good and varied ones beat many alike.",
    project=project,
    step="dataset",
):
    ended_job(project)
    job = busy_job(project)
    if job is None and guidance.unseen(project) > AT_ONCE:
        job = start_scan(project)
    if job is not None:
        st.session_state["watched_job"] = job.id
        live_job(job, key="intake")
        what_next(
            "You can leave this page or close the browser; the work goes on.",
            "Then you see every picture and what to mend.",
        )
    elif not guidance.picture_count(project):
        bring_in(project, first=True)
        if set_aside_list(project):
            aside_tab(project)
        what_next("The studio opens every picture, looks for copies and blur, and says what to mend.",
                  "Captions that lie beside the pictures as .txt come along.")  # fmt: skip
    else:
        waiting = guidance.unseen(project)
        if waiting and st.session_state.get("looked") != waiting:
            st.session_state["looked"] = (
                waiting  # once: a picture that cannot be looked at must not be asked for again
            )
            with st.spinner("Looking at the pictures"):
                scan(project)
            st.rerun()  # the step bar above was drawn from what was known before
        st.session_state.pop("looked", None)
        overview(project)
