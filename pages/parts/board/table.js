// The pictures: weights across, prompts down. Rows out of sight are not laid out and their pictures not fetched; what changed
// is changed in place, so that focus and scrolling stay.

const make = (tag, name, text) => {
  const made = document.createElement(tag);
  if (name) { made.className = name; }
  if (text !== undefined) { made.textContent = text; }
  return made;
};
const number = (w) => String(Math.round(w * 1000) / 1000);
const SIZES = [96, 128, 168, 224, 300];
const LEAST = [52, 69];  // how far the two small sizes give way so that all weights fit; who asks for larger ones scrolls

class Table {
  constructor(box, board) {
    this.box = box;
    this.board = board;
    this.shape = "";
    this.cells = [];
    box.addEventListener("keydown", (e) => board.key(e));
    box.addEventListener("click", (e) => this.click(e));
    // A dialog that closes gives the focus back to the cell that it was opened from: that is not where the person is by then.
    box.addEventListener("focusin", (e) => { const i = this.place(e.target); if (!board.apart && i >= 0 && i !== this.index()) { board.go(this.at(i), false); } });
    box.addEventListener("error", (e) => { if (e.target.tagName === "IMG") { this.lost(e.target); } }, true);
    box.addEventListener("scroll", this.edge = () => {
      const more = box.scrollWidth - box.clientWidth - box.scrollLeft > 4;
      if (more !== box.classList.contains("more")) { box.classList.toggle("more", more); }
    }, { passive: true });
    this.watch = new ResizeObserver(this.edge);
    this.watch.observe(box);
    let size = 1;
    try { size = Number(localStorage.getItem("studio-cell-size") ?? 1); } catch { /* no storage: the usual size */ }
    this.resize(size);
  }

  resize(size) {
    this.size = Math.min(SIZES.length - 1, Math.max(0, Number.isFinite(size) ? size : 1));
    this.box.style.setProperty("--cell", SIZES[this.size] + "px");
    this.box.style.setProperty("--least", (this.size > 1 ? SIZES[this.size] : LEAST[this.size]) + "px");
    this.edge();
    try { localStorage.setItem("studio-cell-size", String(this.size)); } catch { /* it lasts as long as the page */ }
  }

  index() { return this.board.at.r * this.board.d.weights.length + this.board.at.w; }
  at(i) { const n = this.board.d.weights.length; return { ...this.board.at, r: Math.floor(i / n), w: i % n }; }
  place(target) { const cell = target.closest ? target.closest(".cell") : null; return cell ? Number(cell.dataset.i) : -1; }

  click(e) {
    const i = this.place(e.target);
    if (i < 0) { return; }
    this.board.go(this.at(i), true);
    const stars = e.target.closest(".stars");
    if (stars && !stars.hidden) {
      const r = stars.getBoundingClientRect();
      this.board.rate(Math.min(5, Math.max(1, Math.ceil((e.clientX - r.left) / r.width * 5))), true);
    } else { this.board.open(); }
  }

  draw() {
    const d = this.board.d, shape = JSON.stringify([d.grid, d.weights, d.prompts, d.size]);
    if (shape !== this.shape) { this.build(d); this.shape = shape; }
    const { c } = this.board.at, best = d.best[d.checkpoints[c]], words = d.columns[d.checkpoints[c]];
    d.weights.forEach((w, i) => {
      const mark = this.heads[i].querySelector(".mark"), is = best && best[0] === w;
      mark.textContent = is ? best[1] : w === 0 ? "no LoRA" : "";
      mark.classList.toggle("best", !!is);
      mark.title = is ? { best: "The weight to use", nearest: "The drawn weight nearest to the one to use", "best here": "The best weight of this checkpoint; another checkpoint is recommended" }[best[1]] : "";
      this.heads[i].querySelector(".says").textContent = words ? words[i] : "";
    });
    this.cells.forEach((_, i) => this.patch(i));
    this.mark();
    this.edge();
  }

  build(d) {
    this.box.replaceChildren();
    this.cells = [];
    this.box.style.setProperty("--ratio", d.size[0] + " / " + d.size[1]);
    this.box.style.setProperty("--count", d.weights.length);
    this.box.classList.toggle("tiny", Math.max(...d.size) <= 64);
    this.box.setAttribute("aria-rowcount", d.prompts.length + 1);
    this.box.setAttribute("aria-colcount", d.weights.length + 1);
    const top = make("div", "row top");
    top.setAttribute("role", "row");
    const corner = make("div", "head corner", "Prompt");
    corner.setAttribute("role", "columnheader");
    top.append(corner);
    this.heads = d.weights.map((w) => {
      const head = make("div", "head");
      head.setAttribute("role", "columnheader");
      head.append(make("b", "", number(w)), make("span", "mark"), make("small", "says"));
      top.append(head);
      return head;
    });
    this.box.append(top);
    d.prompts.forEach(([text, family], r) => {
      const row = make("div", "row");
      row.setAttribute("role", "row");
      const head = make("div", "head side");
      head.setAttribute("role", "rowheader");
      head.title = text;
      head.append(make("span", "words", text), make("small", "", family));
      row.append(head);
      d.weights.forEach((_, w) => {
        const cell = make("div", "cell");
        cell.setAttribute("role", "gridcell");
        cell.tabIndex = -1;
        cell.dataset.i = r * d.weights.length + w;
        cell.append(make("div", "frame"), make("span", "stars"), make("span", "tags"));
        this.cells.push(cell);
        row.append(cell);
      });
      this.box.append(row);
    });
  }

  patch(i) {
    const b = this.board, at = this.at(i), cell = b.cell(at), said = b.said(cell.hash), el = this.cells[i];
    const now = [cell.hash, cell.version, cell.error, said[0], said[1].join(), said[2], at.c, at.s].join("|");
    if (el.dataset.now === now) { return; }
    el.dataset.now = now;
    el.setAttribute("aria-label", b.words(at));
    const frame = el.firstChild, stars = el.children[1], tags = el.children[2];
    if (cell.drawn) {
      let img = frame.querySelector("img");
      if (!img) {
        img = make("img");
        img.alt = "";
        img.loading = "lazy";
        img.decoding = "async";
        img.draggable = false;
        frame.replaceChildren(img);
      }
      const src = b.url(cell, "small");
      if (img.getAttribute("src") !== src) { img.src = src; }
    } else if (cell.error) { frame.replaceChildren(make("span", "failed", "not drawn")); frame.title = cell.error; }
    else { frame.replaceChildren(); }
    if (!cell.error) { frame.removeAttribute("title"); }
    stars.hidden = !b.ratable(at);
    stars.textContent = "★".repeat(said[0]) + "☆".repeat(5 - said[0]);
    stars.classList.toggle("given", said[0] > 0);
    tags.textContent = [...said[1].map((t) => b.fault(t)), ...(said[2] ? ["note"] : [])].join(" · ");
    tags.title = [...said[1].map((t) => b.fault(t)), said[2]].filter(Boolean).join(" · ");
  }

  lost(img) { img.parentElement.replaceChildren(make("span", "failed", "cannot be shown")); }

  // The mark moves; no more than two cells are touched.
  mark() {
    const now = this.cells[this.index()];
    if (this.marked && this.marked !== now) { this.marked.tabIndex = -1; this.marked.classList.remove("here"); }
    if (now) { now.tabIndex = 0; now.classList.add("here"); this.marked = now; }
  }

  close() { this.watch.disconnect(); }

  focus() {
    const now = this.cells[this.index()];
    if (!now) { return; }
    now.focus({ preventScroll: true });
    now.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}
