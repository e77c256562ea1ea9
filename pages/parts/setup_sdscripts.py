"""The card of kohya's sd-scripts on the Set-up page: where it stands, the one button that helps, the command that does the same."""

from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.context import workspace
from pages.parts.flash import act, say
from pages.parts.live_job import live_job
from studio.errors import StudioError
from studio.files import human_size, human_time
from studio.jobs.job import Job
from studio.machine import detect
from studio.training.sdscripts import builds, install, setup, versions
from studio.training.sdscripts.versions import Status

BADGES = {
    "absent": ":gray-badge[not installed]",
    "installing": ":blue-badge[at work]",
    "interrupted": ":orange-badge[not finished]",
    "ready": ":green-badge[ready]",
    "broken": ":red-badge[needs mending]",
}


def sdscripts_card(title: str, families: str) -> None:
    """The whole card. title, families: as the registry of backends names them."""
    now = versions.status(workspace())
    with st.container(border=True, height="stretch", gap="xsmall", key="sdscripts_card"):
        st.markdown(f"**{title}** {BADGES[now.state]}")
        st.markdown(
            f"Trains {families}. Installed into your workspace, apart from everything else on this computer."
        )
        if now.state == "installing" and now.job is not None:
            live_job(now.job, key="sdscripts_job", stop_label="Stop")
            st.caption("It goes on when this page is closed. What is done is kept when you stop it.")
            return
        _facts(now)
        if now.reason:
            st.warning(
                f"{now.reason}\n\n**What to do:** {now.fix}",
                icon=":material/build:",
                title="It cannot be used",
            )
        elif now.used is not None and now.job is not None:
            _last_try(now.job)
        _buttons(now)
        if now.command:
            st.code(now.command, language="bash", wrap_lines=True)
        _choices(now)


def _facts(now: Status) -> None:
    if now.used is None:
        return
    words = [f"Version {now.used.commit[:8]}" if now.used.commit else "Version unknown"]
    if now.facts.get("torch"):
        words.append(f"PyTorch {now.facts['torch']}")
        words.append(str(now.facts.get("gpu") or "without a graphics card"))
    else:
        words.append("not tried yet")
    st.caption(f"{' · '.join(words)}  \n{'Yours' if now.own else 'In the workspace'}: `{now.used.source}`")
    if detect().gpus and now.facts.get("torch") and not now.facts.get("cuda"):
        st.warning("Its PyTorch cannot use the graphics card of this computer. Install it again below; the build that fits is chosen.",
                   icon=":material/memory_alt:", title="It would train on the CPU")  # fmt: skip


def _last_try(job: Job) -> None:
    """Why the newest installation did not end well, while another version is in use and stays so."""
    if job.state == "failed":
        error = job.error or {}
        st.error(
            f"{error.get('why', '')}\n\n**What to do:** {error.get('fix', '')}",
            title=str(error.get("what") or "The last installation failed"),
            icon=":material/error:",
        )
        st.caption("The version above stays in use.")
    elif job.state in ("stopped", "interrupted") and job.spec.title.startswith("Installing"):
        st.caption(
            "The last installation was stopped; what it did is kept. Start it again to go on, or remove it, under Other ways."
        )


def _buttons(now: Status) -> None:
    with st.container(horizontal=True):
        if now.state in ("absent", "interrupted", "broken"):
            words = {"absent": "Install", "interrupted": "Go on", "broken": "Install again"}[now.state]
            room, time = _takes()
            st.button(f"{words} · up to {room}, about {time}", key="sdscripts_install",
                      type="primary" if now.state != "broken" else "secondary", icon=":material/download:", on_click=act,
                      args=(_install,), help="The time is that of a fast connection; it is corrected while it goes on.")  # fmt: skip
        if now.update:
            st.button(f"Update to {now.update[:8]}", key="sdscripts_update", icon=":material/update:", on_click=act,
                      args=(_install,), help="The version that this studio knows. The one in use stays, to go back to.")  # fmt: skip
        if now.used is not None:
            st.button("Check", key="sdscripts_check", icon=":material/fact_check:", on_click=act,
                      args=(setup.start_check, workspace()), help="Imports its scripts; takes up to a minute.")  # fmt: skip
        if now.previous:
            st.button(f"Back to {Path(now.previous).name}", key="sdscripts_rollback", icon=":material/undo:", on_click=act,
                      args=(_roll_back,), help="Use the version that was used before this one. Both stay.")  # fmt: skip


def _takes() -> tuple[str, str]:
    """Room on the disk, and the usual time, of the installation that fits this computer, in words."""
    known = builds.recipe()
    try:
        build = builds.choose(detect())
    except StudioError:
        build = known.builds[-1]
    return human_size(build.room), human_time(sum(known.usual_seconds(build).values()))


def _install(**chosen: Any) -> None:
    setup.start(workspace(), setup.prepare(workspace(), **chosen))


def _roll_back() -> None:
    used = versions.roll_back(workspace())
    say(
        f"sd-scripts {used.commit[:8] or used.source} is in use again.",
        undo=_roll_back,
        undo_label="Back again",
    )


def _choices(now: Status) -> None:
    with st.expander("Other ways", key="sdscripts_more"):
        st.markdown("**Use one that you have**")
        found = next(iter(versions.candidates()), None)
        st.text_input("Its folder", key="sdscripts_folder", placeholder=str(found or "/home/me/sd-scripts"))
        st.text_input("Its Python", key="sdscripts_python", placeholder="venv inside of the folder")
        st.button("Use it", key="sdscripts_adopt", on_click=act, args=(_adopt, str(found or "")),
                  help="Nothing in the folder is changed.")  # fmt: skip
        st.markdown("**Install another way**")
        st.text_input("From", key="sdscripts_source", placeholder=builds.recipe().source,
                      help="An https address, a local clone, or a folder.")  # fmt: skip
        st.text_input("Commit", key="sdscripts_commit", placeholder=builds.recipe().commit[:12])
        names = {"": "as the graphics card needs", **{b.id: b.words for b in builds.recipe().builds}}
        st.selectbox("PyTorch", list(names), key="sdscripts_torch", format_func=lambda n: names[n])
        st.text_input("Packages from the folder", key="sdscripts_wheels", placeholder="only from the internet",
                      help="A folder of .whl files that pip looks into as well: for a slow or a missing connection.")  # fmt: skip
        st.text_input("PyTorch from the index", key="sdscripts_torch_index", placeholder="as the build needs",
                      help="An https address, or `pypi` for pip's own index.")  # fmt: skip
        st.checkbox("Without the internet: packages from that folder only", key="sdscripts_offline")
        st.button("Install this", key="sdscripts_install_other", on_click=act, args=(_install_other,))
        known = versions.versions(workspace())
        if known:
            st.markdown("**Versions in the workspace**")
        for v in known:
            with st.container(horizontal=True, vertical_alignment="center"):
                size = f" · {human_size(v.size_bytes)}" if v.size_bytes else ""
                state = "in use" if v.in_use else "ready" if v.ready else "not finished"
                st.markdown(f"`{v.name}` · {state}{size}", width="stretch")
                if not v.in_use:
                    if v.ready:
                        st.button("Use", key=f"sdscripts_use_{v.name}", on_click=act,
                                  args=(versions.use_version, workspace(), v.name))  # fmt: skip
                    st.button("Remove", key=f"sdscripts_remove_{v.name}", type="tertiary", icon=":material/delete:",
                              on_click=act, args=(_remove, v.name), help="Moves it to the trash.")  # fmt: skip


def _adopt(found: str) -> None:
    typed = str(st.session_state.get("sdscripts_folder") or found).strip().strip("'\"")
    python = str(st.session_state.get("sdscripts_python") or "").strip().strip("'\"")
    if not typed:
        raise StudioError(
            "No folder was given.", "The folder that git cloned is needed.", "Type its full path."
        )
    install.adopt(workspace(), Path(typed), Path(python) if python else None)
    setup.start_check(workspace())


def _install_other() -> None:
    told = {
        n: str(st.session_state.get(f"sdscripts_{n}") or "").strip().strip("'\"")
        for n in ("source", "commit", "torch", "torch_index", "wheels")
    }
    wheels = told.pop("wheels")
    _install(
        **told,
        wheels=Path(wheels) if wheels else None,
        offline=bool(st.session_state.get("sdscripts_offline")),
    )


def _remove(name: str) -> None:
    place = versions.remove(workspace(), name)
    say(f"Version {name} is in the trash.", undo=lambda: workspace().put_back(place))
