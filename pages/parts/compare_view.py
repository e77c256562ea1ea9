"""Two pictures compared: side by side or under a slider, zoomed and moved together."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from studio.evaluation.thumbs import picture_url

_HTML = """<div class="pc"><div class="pane a"><img alt=""></div><div class="pane b"><img alt=""></div>
<input type="range" min="0" max="100" value="50" aria-label="How much of each picture is shown"></div>"""
_CSS = """
.pc { position: relative; display: grid; grid-template-columns: 1fr 1fr; gap: 12px; width: 100%; }
/* At most 36 % of the window's height: in the dialog, the buttons that rate stay on a screen 900 pixels high. */
.pane { overflow: hidden; aspect-ratio: var(--ratio, 1); max-height: 36vh; border-radius: 8px; background: var(--st-secondary-background-color); cursor: zoom-in; }
.pane img { width: 100%; height: 100%; object-fit: contain; display: block; transform-origin: 0 0; user-select: none;
  transform: translate(var(--x, 0px), var(--y, 0px)) scale(var(--z, 1)); image-rendering: auto; }
.pc.pixels .pane img { image-rendering: pixelated; }
.pc input { display: none; grid-column: 1 / -1; width: 100%; accent-color: var(--st-primary-color); }
.pc.slider { grid-template-columns: 1fr; max-width: min(720px, calc(36vh * var(--ratio, 1))); margin: 0 auto; }
.pc.slider .pane { grid-area: 1 / 1; }
.pc.slider .pane.b { clip-path: inset(0 0 0 var(--cut, 50%)); }
.pc.slider input { display: block; grid-row: 2; }
"""
_JS = """
export default function (c) {
  const root = c.parentElement.querySelector(".pc"), d = c.data, range = root.querySelector("input");
  const panes = [...root.querySelectorAll(".pane")];
  root.classList.toggle("slider", d.slider);
  root.classList.toggle("pixels", d.small);
  root.style.setProperty("--ratio", d.ratio);
  [d.left, d.right].forEach((src, i) => {
    const img = panes[i].querySelector("img");
    if (img.getAttribute("src") !== src) img.setAttribute("src", src);
    img.alt = i ? d.rightWords : d.leftWords;
  });
  const view = { z: 1, x: 0, y: 0 };
  const show = () => {
    const w = panes[0].clientWidth, h = panes[0].clientHeight;
    view.x = Math.min(0, Math.max(w * (1 - view.z), view.x));
    view.y = Math.min(0, Math.max(h * (1 - view.z), view.y));
    root.style.setProperty("--z", view.z);
    root.style.setProperty("--x", view.x + "px");
    root.style.setProperty("--y", view.y + "px");
  };
  const zoom = (pane, e, factor) => {
    const r = pane.getBoundingClientRect(), px = e.clientX - r.left, py = e.clientY - r.top;
    const z = Math.min(8, Math.max(1, view.z * factor));
    view.x = px - (px - view.x) * (z / view.z);
    view.y = py - (py - view.y) * (z / view.z);
    view.z = z;
    show();
  };
  panes.forEach((pane) => {
    let from = null, moved = false;
    pane.onwheel = (e) => { e.preventDefault(); zoom(pane, e, e.deltaY < 0 ? 1.25 : 0.8); };
    pane.onpointerdown = (e) => { from = [e.clientX, e.clientY]; moved = false; pane.setPointerCapture(e.pointerId); };
    pane.onpointermove = (e) => {
      if (!from) return;
      moved = moved || Math.abs(e.clientX - from[0]) + Math.abs(e.clientY - from[1]) > 3;
      view.x += e.clientX - from[0];
      view.y += e.clientY - from[1];
      from = [e.clientX, e.clientY];
      show();
    };
    pane.onpointerup = (e) => { from = null; if (!moved) zoom(pane, e, view.z > 1 ? 1 / view.z : 2.5); };
  });
  const cut = () => root.style.setProperty("--cut", range.value + "%");
  range.oninput = cut;
  range.onkeydown = (e) => e.stopPropagation();
  cut();
  show();
}
"""
_component = st.components.v2.component("picture_compare", html=_HTML, css=_CSS, js=_JS)


def compare(left: Path, right: Path, left_words: str, right_words: str, *, slider: bool, key: str) -> None:
    """Show two pictures. A click or the wheel zooms both at the same place, dragging moves both; the slider moves the border."""
    first, second = picture_url(left), picture_url(right)
    _component(
        key=key,
        data={
            "left": first.address, "right": second.address, "leftWords": left_words, "rightWords": right_words, "slider": slider,
            "ratio": f"{second.width} / {second.height}", "small": max(second.width, second.height) <= 128,
        },
    )  # fmt: skip
    if slider:
        st.caption(f"Left of the border: {left_words}. Right of it: {right_words}. Click to zoom.")
    else:
        one, two = st.columns(2)
        one.caption(left_words)
        two.caption(right_words)
