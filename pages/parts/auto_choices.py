"""The choices about captions by an engine, in plain words; each is saved as soon as it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.parts.context import advanced
from pages.parts.flash import act, say
from pages.parts.form import synced
from pages.parts.live_job import is_running, live_job
from pages.parts.words import plain
from studio import secrets
from studio.captions import auto, offered
from studio.captions.auto import ENGINES, AutoSettings, EngineKind
from studio.captions.batch import download_of, start_download
from studio.captions.taggers import downloadable
from studio.errors import StudioError
from studio.files import human_size
from studio.project import Project

_OWN = "own folder"
_RESIZE = {
    "bicubic": "Bicubic, as the taggers were made",
    "area": "By area, tag for tag as the script of sd-scripts",
}


def draw(project: Project) -> None:
    """The engine and its settings."""
    now = auto.load(project)
    kinds: list[EngineKind] = list(ENGINES)
    synced("auto_engine", now.engine)
    st.segmented_control("Engine", kinds, key="auto_engine", required=True, label_visibility="collapsed",
                         format_func=lambda k: ENGINES[k][0], on_change=act,
                         args=(_store, project, lambda a, v: {"engine": v}, "auto_engine"))  # fmt: skip
    st.caption(ENGINES[now.engine][1])
    {"tagger": _tagger, "endpoint": _endpoint, "local": _local, "replicate": _replicate}[now.engine](
        project, now
    )
    if now.engine != "tagger":
        _words(project, now)


def not_ready(project: Project, error: StudioError) -> None:
    """Why the engine cannot be asked yet; with the download where that mends it."""
    now = auto.load(project)
    missing = next((t for t in downloadable() if t.id == now.tagger.model), None)
    if now.engine == "tagger" and missing is not None and not missing.is_here(project.workspace):
        job = download_of(project.workspace, missing.id)
        if job is not None and is_running(job):
            live_job(job, key="auto_download", stop_label="Stop the download", details=False)
            return
        if job is not None and job.state == "failed":
            told = job.error or {}
            st.warning(
                f"{told.get('why', '')} {told.get('fix', '')}",
                title=str(told.get("what", "The download failed.")),
            )
        going_on = job is not None and job.state in ("stopped", "interrupted", "failed")
        label = (
            "Go on with the download"
            if going_on
            else f"Download {missing.title} · {human_size(missing.size_bytes)}"
        )
        st.button(label, key="auto_get", type="primary", icon=":material/download:", on_click=act,
                  args=(start_download, project.workspace, missing.id))  # fmt: skip
        st.caption(
            f"From {missing.repo} on huggingface.co, licence {missing.licence}. It is checked by its hash."
        )
        return
    st.info(
        f"{plain(error.why, 400)}\n\n**What to do:** {plain(error.fix, 400)}",
        title=error.what,
        icon=":material/info:",
    )


def _store(project: Project, change: Callable[[AutoSettings, Any], dict[str, Any]], key: str) -> None:
    """Save what was just chosen; what cannot be used is told and not saved."""
    now = auto.load(project)
    changed = {**now.model_dump(mode="json"), **change(now, st.session_state[key])}
    auto.save(project, auto.parsed(changed))


def _part(
    project: Project,
    now: AutoSettings,
    part: str,
    name: str,
    draw: Callable[..., Any],
    label: str,
    **how: Any,
) -> None:
    """A widget for one setting."""
    key = f"auto_{part}_{name}"
    stored = getattr(getattr(now, part), name)
    synced(key, list(stored) if isinstance(stored, tuple) else stored)

    def change(a: AutoSettings, value: Any) -> dict[str, Any]:
        return {part: {**getattr(a, part).model_dump(mode="json"), name: value}}

    draw(label, key=key, on_change=act, args=(_store, project, change, key), **how)


def _tagger(project: Project, now: AutoSettings) -> None:
    own = now.tagger
    known = {t.id: t for t in downloadable()}
    listed = own.model in known
    synced("auto_tagger", own.model if listed else _OWN)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        chosen = st.selectbox("Tagger", [*known, _OWN], key="auto_tagger", on_change=act, args=(_choose_tagger, project),
                              format_func=lambda i: _tagger_words(project, i))  # fmt: skip
        if chosen in known:
            st.caption(known[chosen].summary)
        else:
            _part(project, now, "tagger", "model", st.text_input, "Folder of the tagger",
                  placeholder="/home/you/taggers/mine", help="It holds model.onnx and selected_tags.csv.")  # fmt: skip
    with right:
        _part(project, now, "tagger", "general", st.slider, "How sure a tag must be", min_value=0.05, max_value=0.95,
              step=0.05, disabled=own.mcut, help="Higher: fewer tags, and surer ones. 0.35 suits most sets.")  # fmt: skip
    _part(project, now, "tagger", "exclude", st.multiselect, "Tags never to be written", options=list(own.exclude),
          accept_new_options=True, placeholder="signature, watermark, what you teach",
          help="What is taught belongs into the trigger word, not into the captions.")  # fmt: skip
    if advanced():
        _tagger_more(project, now)


def _tagger_more(project: Project, now: AutoSettings) -> None:
    with st.expander("More about tags", key="auto_more"):
        left, right = st.columns(2, gap="medium")
        with left:
            _part(project, now, "tagger", "character", st.slider, "How sure a character's name must be", min_value=0.05,
                  max_value=1.0, step=0.05, disabled=now.tagger.mcut)  # fmt: skip
            _part(project, now, "tagger", "order", st.selectbox, "Order", options=["confidence", "model"],
                  format_func=lambda o: {"confidence": "The surest first", "model": "As the tagger lists them"}[o])  # fmt: skip
        with right:
            _part(project, now, "tagger", "mcut", st.toggle, "Find the thresholds for each picture (MCut)",
                  help="Cuts at the largest gap between the probabilities.")  # fmt: skip
            _part(project, now, "tagger", "underscores", st.toggle, "Keep underscores",
                  help="For base models that were raised on long_hair instead of long hair.")  # fmt: skip
            _part(project, now, "tagger", "rating", st.toggle, "Write the rating as the last tag")
        _part(project, now, "tagger", "resize", st.selectbox, "How pictures are made smaller", options=list(_RESIZE),
              format_func=_RESIZE.__getitem__,
              help="Tags near the threshold can come and go with it. The second is for sets begun with sd-scripts.")  # fmt: skip


def _choose_tagger(project: Project) -> None:
    chosen = st.session_state["auto_tagger"]
    model = "" if chosen == _OWN else chosen
    _store(
        project, lambda a, _: {"tagger": {**a.tagger.model_dump(mode="json"), "model": model}}, "auto_tagger"
    )


def _tagger_words(project: Project, tagger_id: str) -> str:
    if tagger_id == _OWN:
        return "A tagger in a folder of mine"
    entry = next(t for t in downloadable() if t.id == tagger_id)
    here = "on this computer" if entry.is_here(project.workspace) else human_size(entry.size_bytes)
    return f"{entry.title} · {here}"


def _endpoint(project: Project, now: AutoSettings) -> None:
    left, right = st.columns([3, 2], gap="medium", vertical_alignment="bottom")
    with left:
        _part(project, now, "endpoint", "address", st.text_input, "Address of the service",
              placeholder="http://localhost:11434/v1", help="Ollama: http://localhost:11434/v1 · LM Studio: http://localhost:1234/v1")  # fmt: skip
    with right:
        models = st.session_state.get("auto_models", [])
        if models:
            options = (
                models
                if now.endpoint.model in models or not now.endpoint.model
                else [now.endpoint.model, *models]
            )
            _part(project, now, "endpoint", "model", st.selectbox, "Model", options=["", *options],
                  format_func=lambda m: m or "Choose one")  # fmt: skip
        else:
            _part(project, now, "endpoint", "model", st.text_input, "Model", placeholder="qwen2.5vl")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Ask which models it has",
            key="auto_ask",
            icon=":material/search:",
            on_click=act,
            args=(_ask_models, project),
        )
        there, _ = secrets.secret_state(project.workspace, secrets.OPENAI)
        st.caption(f"Key ({secrets.OPENAI}): {'set, and sent over https only' if there else 'not set; services on this computer want none'}")  # fmt: skip
    if advanced():
        with st.expander("More about the service", key="auto_service_more"):
            a, b = st.columns(2, gap="medium")
            with a:
                _part(
                    project,
                    now,
                    "endpoint",
                    "at_once",
                    st.number_input,
                    "Pictures at the same time",
                    min_value=1,
                    max_value=8,
                )
                _part(project, now, "endpoint", "timeout_s", st.number_input, "Wait for one answer (seconds)", min_value=5.0, max_value=900.0, step=30.0)  # fmt: skip
                _part(project, now, "endpoint", "side", st.number_input, "Longest side sent (px)", min_value=256, max_value=2048, step=128)  # fmt: skip
            with b:
                _part(project, now, "endpoint", "key", st.selectbox, "Send the key", options=["auto", "always", "never"],
                      format_func=lambda k: {"auto": "Over https only", "always": "Always", "never": "Never"}[k])  # fmt: skip
                _part(project, now, "endpoint", "own_network", st.toggle, "This server is in my own network",
                      help="Private addresses other than this computer are only asked when this is on.")  # fmt: skip
    elif now.endpoint.own_network:
        st.caption("Private addresses in your own network are allowed.")


def _ask_models(project: Project) -> None:
    found = offered.service_models(project)
    st.session_state["auto_models"] = found
    say(f"It has {len(found)} models." if found else "It has no models yet.")


def _local(project: Project, now: AutoSettings) -> None:
    _part(project, now, "local", "folder", st.text_input, "Folder of the model", placeholder="/home/you/models/Qwen2.5-VL-3B-Instruct",
          help="A vision-language model in the layout of transformers, with .safetensors weights.")  # fmt: skip


def _replicate(project: Project, now: AutoSettings) -> None:
    _part(project, now, "replicate", "model", st.text_input, "Model on Replicate", placeholder="owner/name",
          help="From the model's page on replicate.com; community models also need their version: owner/name:version.")  # fmt: skip
    there, _ = secrets.secret_state(project.workspace, secrets.REPLICATE)
    st.caption(
        f"Token ({secrets.REPLICATE}): {'set' if there else 'not set'} · each caption costs money: the model's page says how much"
    )
    if advanced():
        a, b = st.columns(2, gap="medium")
        with a:
            _part(project, now, "replicate", "picture", st.text_input, "Its input for the picture")
        with b:
            _part(project, now, "replicate", "question", st.text_input, "Its input for the text")


def _words(project: Project, now: AutoSettings) -> None:
    """How descriptions are written."""
    left, right = st.columns(2, gap="medium")
    with left:
        kind = (
            "tags"
            if auto.format_of(project, now.words.model_copy(update={"format": "auto"})) == "tags"
            else "sentences"
        )
        _part(project, now, "words", "format", st.selectbox, "Form", options=["auto", "sentences", "tags"],
              format_func=lambda f: {"auto": f"As the base model likes it ({kind})", "tags": "Tags", "sentences": "Sentences"}[f])  # fmt: skip
    with right:
        _part(project, now, "words", "say", st.selectbox, "What it says", options=["content", "both"],
              format_func=lambda s: {"content": "What may change; leaves out what you teach", "both": "That, and how the picture is made"}[s])  # fmt: skip
    _part(project, now, "words", "hint", st.text_input, "Your own hint", max_chars=1000,
          placeholder="The woman is called Mira; always say what she wears.")  # fmt: skip
