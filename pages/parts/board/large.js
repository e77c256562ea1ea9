// One cell large, beside the base, another cell or the nearest training picture; rating, faults and a note below it.

class Large {
  constructor(dialog, board) {
    this.dialog = dialog;
    this.board = board;
    this.get = (name) => dialog.querySelector("." + name);
    this.panes = new Panes(this.get("pc"));
    this.beside = "base";
    this.slider = false;
    this.ahead = [];
    dialog.addEventListener("keydown", (e) => board.key(e));
    dialog.addEventListener("close", () => { this.noteDone(); board.closed(); });
    dialog.addEventListener("click", (e) => { if (e.target === dialog) { dialog.close(); } });
    dialog.querySelectorAll("[data-do]").forEach((button) => { button.onclick = () => board.act(button.dataset.do); });
    this.get("beside").onchange = (e) => { this.beside = e.target.value; this.draw(); this.stage(); };
    const note = this.get("note");
    note.oninput = () => {
      window.clearTimeout(this.later);
      this.later = window.setTimeout(() => this.noteDone(), 400);
    };
    note.onblur = () => this.noteDone();
    window.addEventListener("pagehide", this.away = () => this.noteDone());
  }

  get isOpen() { return this.dialog.open; }

  show() {
    if (!this.dialog.open) { this.dialog.showModal(); this.panes.view = { z: 1, x: 0, y: 0 }; }
    this.draw();
    this.stage();
  }

  stage() { this.get("stage").focus({ preventScroll: true }); }

  noteDone() {
    window.clearTimeout(this.later);
    const hash = this.noted, note = this.get("note");
    if (!hash) { return; }
    const is = note.value.trim().replace(/\s+/g, " ");
    if (is !== this.noteWas) { const was = this.noteWas; this.noteWas = is; this.board.say(hash, "note", is, was); }
  }

  others(at) {
    const b = this.board, d = b.d, found = [], here = b.cell(at);
    const add = (id, words, src) => found.push({ id: id, words: words, src: src });
    const several = d.checkpoints.length > 1;
    const base = b.cell({ ...at, w: d.weights.indexOf(0) });
    if (d.weights[at.w] !== 0 && base.drawn) { add("base", "Without the LoRA", b.url(base, "large")); }
    const measured = d.measured[here.hash];
    if (measured && measured[3] !== null && d.nearUrls[measured[3]]) {
      add("nearest", "Nearest training picture: " + d.near[measured[3]], d.nearUrls[measured[3]]);
    }
    d.checkpoints.forEach((label, c) => d.weights.forEach((w, i) => {
      if (w === 0 || (c === at.c && i === at.w)) { return; }
      const other = b.cell({ ...at, c: c, w: i });
      if (other.drawn) { add(label + " " + w, "Weight " + number(w) + (several ? ", " + label : ""), b.url(other, "large")); }
    }));
    return found;
  }

  step(by) {
    const found = this.others(this.board.at), i = found.findIndex((o) => o.id === this.beside);
    if (found.length) { this.beside = found[(i + by + found.length) % found.length].id; this.draw(); this.board.tell("Beside it: " + found[(Math.max(i, -1) + by + found.length) % found.length].words); }
  }

  draw() {
    if (!this.dialog.open) { return; }
    const b = this.board, d = b.d, at = b.at, cell = b.cell(at), said = b.said(cell.hash), text = d.prompts[at.r][0];
    this.get("title").textContent = text;
    this.get("where").textContent = [d.checkpoints[at.c], "weight " + number(d.weights[at.w]), "seed " + d.seeds[at.s], d.prompts[at.r][1]].join(" · ");
    this.get("count").textContent = b.counted();
    const found = this.others(at), select = this.get("beside");
    const ids = found.map((o) => o.id).join("|") + "|" + found.map((o) => o.words).join("|");
    if (select.dataset.ids !== ids) {
      select.dataset.ids = ids;
      select.replaceChildren(...found.map((o) => { const made = make("option", "", o.words); made.value = o.id; return made; }));
    }
    const other = found.find((o) => o.id === this.beside) || found[0] || null;
    select.value = other ? other.id : "";
    select.disabled = !found.length;
    this.get("missing").hidden = cell.drawn;
    this.get("look").hidden = !cell.drawn;
    this.get("missing").textContent = cell.drawn ? "" : cell.error ? "Not drawn: " + cell.error : "Not drawn yet.";
    this.get("pc").hidden = !cell.drawn;
    const mine = { src: cell.drawn ? b.url(cell, "large") : "", words: d.weights[at.w] === 0 ? "Without the LoRA" : "Weight " + number(d.weights[at.w]) };
    if (cell.drawn) { this.panes.show(other, mine, this.slider, Math.max(...d.size) <= 128, d.size[0] + " / " + d.size[1]); this.panes.draw(); }
    this.press("side", !this.slider || !other);
    this.press("slider", this.slider && !!other);
    const ratable = b.ratable(at);
    this.get("judge").hidden = !ratable;
    this.get("unjudged").hidden = ratable || !cell.drawn;
    for (let n = 1; n <= 5; n += 1) { this.press("rate-" + n, said[0] === n); }
    d.faults.forEach(([tag], i) => this.press("fault-" + i, said[1].includes(tag)));
    this.press("onward", b.onward);
    if (this.noted !== cell.hash) { this.noteDone(); this.noted = cell.hash; this.noteWas = said[2]; this.get("note").value = said[2]; }
    else if (this.noteWas !== said[2] && this.get("note").getRootNode().activeElement !== this.get("note")) { this.noteWas = said[2]; this.get("note").value = said[2]; }
    this.get("measured").textContent = this.measures(d.measured[cell.hash], d);
    this.fetchAhead(at);
  }

  press(name, on) { const button = this.dialog.querySelector('[data-do="' + name + '"]'); if (button) { button.setAttribute("aria-pressed", String(on)); } }

  measures(m, d) {
    if (!m || d.weights[this.board.at.w] === 0) { return ""; }
    const parts = [];
    if (m[0] !== null) { parts.push(m[0] + "% of the way to your pictures"); }
    if (m[1] !== null) { parts.push(m[1] + "% of its subject kept"); }
    if (m[2]) { parts.push("picture faults " + m[2] + "%"); }
    if (m[3] !== null) { parts.push("most like " + d.near[m[3]] + (m[4] ? " (very close: a copy?)" : "")); }
    return parts.length ? "Measured: " + parts.join(", ") + "." : "";
  }

  // The four neighbours are fetched while this one is looked at.
  fetchAhead(at) {
    const b = this.board;
    this.ahead = [[0, 1], [0, -1], [1, 0], [-1, 0]].map(([r, w]) => {
      const cell = b.cell(b.beside(at, r, w)), img = new Image();
      if (cell.drawn) { img.src = b.url(cell, "large"); }
      return img;
    });
  }

  close() { window.removeEventListener("pagehide", this.away); window.clearTimeout(this.later); }
}
