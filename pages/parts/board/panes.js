// Two pictures side by side or under a slider, zoomed and moved together.

class Panes {
  constructor(root) {
    this.root = root;
    this.range = root.querySelector("input");
    this.panes = [...root.querySelectorAll(".pane")];
    this.view = { z: 1, x: 0, y: 0 };
    this.panes.forEach((pane) => this.listen(pane));
    this.range.oninput = () => this.cut();
    this.range.onkeydown = (e) => { if (e.key.startsWith("Arrow") || e.key === "Home" || e.key === "End") { e.stopPropagation(); } };
    this.cut();
  }

  // left, right: {src, words} or null for a left one that there is none of.
  show(left, right, slider, small, ratio) {
    this.root.classList.toggle("slider", slider && !!left);
    this.root.classList.toggle("alone", !left);
    this.root.classList.toggle("pixels", small);
    this.root.style.setProperty("--ratio", ratio);
    [left, right].forEach((told, i) => {
      const figure = this.panes[i].parentElement, img = this.panes[i].querySelector("img");
      figure.hidden = !told;
      if (!told) { img.removeAttribute("src"); return; }
      if (img.getAttribute("src") !== told.src) { img.setAttribute("src", told.src); }
      img.alt = told.words;
      figure.querySelector("figcaption").textContent = told.words;
    });
  }

  draw() {
    const v = this.view, w = this.panes[1].clientWidth, h = this.panes[1].clientHeight;
    if (v.w && w && h) { v.x *= w / v.w; v.y *= h / v.h; }  // the same place when the panes change their size
    v.w = w;
    v.h = h;
    v.x = Math.min(0, Math.max(w * (1 - v.z), v.x));
    v.y = Math.min(0, Math.max(h * (1 - v.z), v.y));
    this.root.style.setProperty("--z", v.z);
    this.root.style.setProperty("--x", v.x + "px");
    this.root.style.setProperty("--y", v.y + "px");
    this.root.classList.toggle("near", v.z > 1);
  }

  zoom(factor, px = this.panes[1].clientWidth / 2, py = this.panes[1].clientHeight / 2) {
    const v = this.view, z = Math.min(8, Math.max(1, v.z * factor));
    v.x = px - (px - v.x) * (z / v.z);
    v.y = py - (py - v.y) * (z / v.z);
    v.z = z;
    this.draw();
  }

  toggle() { this.zoom(this.view.z > 1 ? 1 / this.view.z : 2.5); }

  move(dx, dy) {
    this.view.x -= dx * this.panes[1].clientWidth / 6;
    this.view.y -= dy * this.panes[1].clientHeight / 6;
    this.draw();
  }

  cut() { this.root.style.setProperty("--cut", this.range.value + "%"); }

  listen(pane) {
    let from = null, moved = false;
    const place = (e) => { const r = pane.getBoundingClientRect(); return [e.clientX - r.left, e.clientY - r.top]; };
    pane.onwheel = (e) => { e.preventDefault(); this.zoom(e.deltaY < 0 ? 1.25 : 0.8, ...place(e)); };
    pane.onpointerdown = (e) => { from = [e.clientX, e.clientY]; moved = false; pane.setPointerCapture(e.pointerId); };
    pane.onpointermove = (e) => {
      if (!from) { return; }
      moved = moved || Math.abs(e.clientX - from[0]) + Math.abs(e.clientY - from[1]) > 3;
      this.view.x += e.clientX - from[0];
      this.view.y += e.clientY - from[1];
      from = [e.clientX, e.clientY];
      this.draw();
    };
    pane.onpointerup = (e) => { from = null; if (!moved) { this.zoom(this.view.z > 1 ? 1 / this.view.z : 2.5, ...place(e)); } };
    pane.ondragstart = (e) => e.preventDefault();
  }
}
