// The board of one grid: where the mark is, what a key does, what was said. It answers keys by itself; the server hears of
// what was said and answers with what is on the disk.

const KEYS = [["←  →", "weaker, stronger"], ["↑  ↓", "prompt before, next prompt"], ["Enter", "large, Esc: back"], ["1 – 5", "rate; 0 takes it back"],
  ["Shift + 1 – 7", "mark a fault, or take the mark away"], ["M", "write a note; Esc leaves it"], ["N", "next picture without a rating"],
  ["A", "go on by itself after a rating"], ["U", "undo the last change"], ["C  S", "next checkpoint, next seed (Shift: the one before)"],
  ["B", "what stands beside it (Shift: the one before)"], ["V", "side by side or slider"], ["Z  +  −", "zoom; Shift + arrows move"],
  ["Home  End", "first and last weight; with Ctrl first and last picture"], ["G", "to the pictures, from anywhere on the page"]];

class Board {
  constructor(root) {
    this.root = root;
    this.get = (name) => root.querySelector("." + name);
    this.at = { c: 0, s: 0, r: 0, w: 0 };
    this.d = null;
    try { this.onward = localStorage.getItem("studio-onward") === "1"; } catch { this.onward = false; }
    const list = this.get("keylist");
    KEYS.forEach(([key, does]) => { list.append(make("dt", "", key), make("dd", "", does)); });
    root.addEventListener("keydown", (e) => e.stopPropagation());
    root.querySelectorAll(".bar [data-do]").forEach((button) => { button.onclick = () => this.act(button.dataset.do); });
    this.outside = (e) => {
      const on = document.activeElement;
      if (e.defaultPrevented || e.ctrlKey || e.metaKey || e.altKey || !root.isConnected || document.querySelector("[role=dialog]")) { return; }
      const typing = on && on.matches("input, textarea, select, [contenteditable=true]");
      if ((e.key === "g" && !typing) || (e.key.startsWith("Arrow") && (!on || on === document.body))) { e.preventDefault(); this.table.focus(); }
    };
    document.addEventListener("keydown", this.outside);
    this.look = () => { if (!document.hidden && this.tellServer && Date.now() - (this.looked || 0) > 3000) { this.looked = Date.now(); this.tellServer("look", this.looked); } };
    window.addEventListener("focus", this.look);
  }

  update(d, send) {
    this.tellServer = send;
    if (!this.keeper || this.keeper.grid !== d.grid) {
      if (this.keeper) { this.keeper.close(); }
      this.keeper = new Keeper(d.grid, (state) => this.status(state));
      this.d = d;
      this.at = this.recall(d);
      this.looked = Date.now();
    }
    this.d = d;
    this.at = this.within(this.at);
    if (!this.table) { this.table = new Table(this.get("table"), this); this.large = new Large(this.get("large"), this); this.faults(); }
    this.keeper.send = (what) => send("said", what);
    this.keeper.heard(d.ack);
    this.switches();
    this.table.draw();
    this.large.draw();
    this.tally();
    if (this.reopen) { this.reopen = false; this.open(); }
  }

  // --- where

  recall(d) {
    const label = d.advised === null ? -1 : d.checkpoints.indexOf(d.advised);
    const start = { c: label >= 0 ? label : d.checkpoints.length - 1, s: 0, r: 0, w: Math.max(0, d.weights.findIndex((w) => w > 0)) };
    try {
      const old = JSON.parse(sessionStorage.getItem("studio-place-" + d.grid) || "null");
      if (old) { this.reopen = !!old.open; return { ...start, ...old.at }; }
    } catch { /* begins at the start */ }
    return start;
  }

  within(at) {
    const d = this.d, fit = (x, n) => Math.min(Math.max(0, Number(x) || 0), n - 1);
    return { c: fit(at.c, d.checkpoints.length), s: fit(at.s, d.seeds.length), r: fit(at.r, d.prompts.length), w: fit(at.w, d.weights.length) };
  }

  beside(at, r, w) {
    const d = this.d, turn = (x, n) => (x + n) % n;
    return { ...at, r: turn(at.r + r, d.prompts.length), w: turn(at.w + w, d.weights.length) };
  }

  cell(at) {
    const d = this.d, told = d.cells[at.c * d.seeds.length + at.s][at.r * d.weights.length + at.w].split(".");
    return { hash: told[0], version: told[1] || "", drawn: told.length > 1, error: told.length > 1 ? "" : d.errors[told[0]] || "" };
  }

  url(cell, size) { return this.d.place + "/" + cell.hash + "/" + size + "?v=" + cell.version; }
  fault(tag) { const found = this.d.faults.find((f) => f[0] === tag); return found ? found[1] : tag; }
  ratable(at) { return this.d.weights[at.w] !== 0 && this.cell(at).drawn; }
  said(hash) { return this.keeper.over(hash, this.d.said[hash] || [0, [], ""]); }

  words(at) {
    const d = this.d, cell = this.cell(at), said = this.said(cell.hash);
    const parts = [d.prompts[at.r][0], d.weights[at.w] === 0 ? "weight 0, no LoRA" : "weight " + number(d.weights[at.w])];
    if (!cell.drawn) { parts.push(cell.error ? "not drawn: " + cell.error : "not drawn yet"); }
    else if (this.ratable(at)) { parts.push(said[0] ? "rated " + said[0] + " of 5, " + d.rated[said[0] - 1] : "not rated"); }
    said[1].forEach((t) => parts.push(this.fault(t)));
    if (said[2]) { parts.push("note: " + said[2]); }
    return parts.join(", ");
  }

  go(at, focus) {
    const other = at.c !== this.at.c || at.s !== this.at.s;
    this.at = this.within(at);
    if (other) { this.switches(); this.table.draw(); } else { this.table.mark(); }
    if (this.large.isOpen) { this.large.draw(); this.tell(this.words(this.at)); }
    else if (focus) { this.table.focus(); }
    this.remember();
  }

  remember() {
    try { sessionStorage.setItem("studio-place-" + this.d.grid, JSON.stringify({ at: this.at, open: this.large.isOpen })); } catch { /* only a convenience */ }
  }

  // --- what is said

  say(hash, what, value, before) {
    this.keeper.say(hash, what, value, before);
    this.table.cells.forEach((_, i) => { if (this.cell(this.table.at(i)).hash === hash) { this.table.patch(i); } });
    this.large.draw();
    this.tally();
  }

  rate(n, again) {
    const cell = this.cell(this.at), now = this.said(cell.hash)[0];
    if (!this.ratable(this.at)) { this.tell(cell.drawn ? "The base column shows no LoRA; it is not rated." : "There is no picture to rate yet."); return; }
    const to = n === 0 || (again && n === now) ? null : n;
    if ((to || 0) !== now) { this.say(cell.hash, "rating", to, now || null); }
    this.tell(to ? "Rated " + to + " of 5, " + this.d.rated[to - 1] : "No rating");
    if (to && this.onward) { this.next(); }
  }

  mark(i) {
    const fault = this.d.faults[i], cell = this.cell(this.at);
    if (!fault || !this.ratable(this.at)) { return; }
    const on = !this.said(cell.hash)[1].includes(fault[0]);
    this.say(cell.hash, fault[0], on, !on);
    this.tell((on ? "Marked: " : "Mark taken away: ") + fault[1]);
  }

  undo() {
    const last = this.keeper.takeBack();
    if (!last) { this.tell("There is nothing to undo."); return; }
    const said = this.said(last.cell);
    const now = last.what === "rating" ? said[0] || null : last.what === "note" ? said[2] : said[1].includes(last.what);
    if (now !== last.after) { this.tell("It was changed since, in another window, and is left as it is."); this.tally(); return; }
    const d = this.d;
    for (let n = 0; n < d.cells.length; n += 1) {
      const i = d.cells[n].findIndex((c) => c.startsWith(last.cell));
      if (i >= 0 && this.cell(this.at).hash !== last.cell) {
        this.go({ c: Math.floor(n / d.seeds.length), s: n % d.seeds.length, r: Math.floor(i / d.weights.length), w: i % d.weights.length }, true);
      }
      if (i >= 0) { break; }
    }
    this.say(last.cell, last.what, last.before);
    this.tell("Undone.");
  }

  // The next picture without a rating: on this table, then on those after it, and round again.
  next() {
    const d = this.d, each = d.prompts.length * d.weights.length, all = d.cells.length * each;
    const start = (this.at.c * d.seeds.length + this.at.s) * each + this.table.index();
    for (let k = 1; k < all; k += 1) {
      const i = (start + k) % all, n = Math.floor(i / each), j = i % each;
      const at = { c: Math.floor(n / d.seeds.length), s: n % d.seeds.length, r: Math.floor(j / d.weights.length), w: j % d.weights.length };
      if (this.ratable(at) && !this.said(this.cell(at).hash)[0]) { this.go(at, true); return; }
    }
    this.tell("Every picture has a rating.");
  }

  counts() {
    const seen = new Set();
    let rated = 0;
    this.d.cells.forEach((list) => list.forEach((told, i) => {
      const [hash, version] = told.split(".");
      if (!version || this.d.weights[i % this.d.weights.length] === 0 || seen.has(hash)) { return; }
      seen.add(hash);
      if (this.said(hash)[0]) { rated += 1; }
    }));
    return [rated, seen.size];
  }

  counted() { const [rated, all] = this.counts(); return all ? rated + " of " + all + " rated" : ""; }

  // --- what a key or button does

  act(what) {
    const [word, n] = [what.replace(/-\d+$/, ""), Number((what.match(/\d+$/) || [0])[0])];
    const does = {
      rate: () => this.rate(n, true), fault: () => this.mark(n), undo: () => this.undo(), next: () => this.next(), open: () => this.open(),
      left: () => this.go(this.beside(this.at, 0, -1), true), right: () => this.go(this.beside(this.at, 0, 1), true),
      up: () => this.go(this.beside(this.at, -1, 0), true), down: () => this.go(this.beside(this.at, 1, 0), true),
      side: () => this.way(false), slider: () => this.way(true), zoom: () => this.large.panes.toggle(), close: () => this.large.dialog.close(),
      smaller: () => this.table.resize(this.table.size - 1), larger: () => this.table.resize(this.table.size + 1),
      keys: () => { const box = this.get("help"); box.hidden = !box.hidden; this.root.querySelector('[data-do="keys"]').setAttribute("aria-expanded", String(!box.hidden)); },
      onward: () => this.turn(),
    };
    does[word]();
  }

  way(slider) { this.large.slider = slider; this.large.draw(); this.large.panes.draw(); this.tell(slider ? "Slider" : "Side by side"); }

  turn() {
    this.onward = !this.onward;
    try { localStorage.setItem("studio-onward", this.onward ? "1" : "0"); } catch { /* it lasts as long as the page */ }
    this.root.querySelectorAll('[data-do="onward"]').forEach((b) => b.setAttribute("aria-pressed", String(this.onward)));
    this.tell(this.onward ? "After a rating it goes on to the next picture." : "After a rating it stays.");
  }

  key(e) {
    if (e.defaultPrevented || e.isComposing || e.keyCode === 229 || e.altKey || e.metaKey) { return; }
    const t = e.composedPath()[0], open = this.large.isOpen;
    if (t.matches("input[type=text]")) { if (e.key === "Escape" || e.key === "Enter") { e.preventDefault(); this.large.noteDone(); this.large.stage(); } return; }
    if (t.matches("select") && !/^Digit|^Numpad/.test(e.code)) { return; }
    const d = this.d, key = e.key.length === 1 ? e.key.toLowerCase() : e.key, back = e.shiftKey ? -1 : 1;
    const digit = (e.code.match(/^(?:Digit|Numpad)([0-9])$/) || [])[1];
    let does = null;
    if (e.ctrlKey) {
      if (key === "z") { does = () => this.undo(); }
      else if (key === "Home") { does = () => this.go({ ...this.at, r: 0, w: 0 }, true); }
      else if (key === "End") { does = () => this.go({ ...this.at, r: d.prompts.length - 1, w: d.weights.length - 1 }, true); }
    } else if (digit !== undefined) { does = () => (e.shiftKey && !e.code.startsWith("Numpad") ? this.mark(Number(digit) - 1) : Number(digit) <= 5 && this.rate(Number(digit), false)); }
    else if (key.startsWith("Arrow")) {
      const [r, w] = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[key];
      if (open && e.shiftKey) { does = () => this.large.panes.move(w, r); }
      else if (open) { does = () => this.go(this.beside(this.at, r, w), true); }
      else { does = () => this.go({ ...this.at, r: this.at.r + r, w: this.at.w + w }, true); }
    } else {
      does = {
        Home: () => this.go({ ...this.at, w: 0 }, true), End: () => this.go({ ...this.at, w: d.weights.length - 1 }, true),
        PageUp: () => this.go({ ...this.at, r: this.at.r - 4 }, true), PageDown: () => this.go({ ...this.at, r: this.at.r + 4 }, true),
        Delete: () => this.rate(0), Backspace: () => this.rate(0), n: () => this.next(), u: () => this.undo(), a: () => this.turn(),
        c: () => this.go({ ...this.at, c: (this.at.c + back + d.checkpoints.length) % d.checkpoints.length }, true),
        s: () => this.go({ ...this.at, s: (this.at.s + back + d.seeds.length) % d.seeds.length }, true),
        m: () => { this.open(); const note = this.large.get("note"); if (!note.closest("[hidden]")) { note.focus(); } },
        "?": () => { if (!open) { this.act("keys"); } },
        "+": () => (open ? this.large.panes.zoom(1.5) : this.act("larger")), "-": () => (open ? this.large.panes.zoom(1 / 1.5) : this.act("smaller")),
      }[key];
      if (!does && open) { does = { v: () => this.way(!this.large.slider), b: () => this.large.step(back), z: () => this.large.panes.toggle() }[key]; }
      if (!does && !open && (key === "Enter" || key === " ")) { does = () => this.open(); }
    }
    if (does) { e.preventDefault(); does(); }
  }

  open() { this.apart = true; this.large.show(); this.remember(); }
  closed() { this.apart = false; this.table.focus(); this.remember(); }

  // --- the bar above

  switches() {
    this.radios("checkpoints", "Checkpoint", this.d.checkpoints, this.at.c, (i) => this.go({ ...this.at, c: i }, false));
    this.radios("seeds", "Seed", this.d.seeds.map(String), this.at.s, (i) => this.go({ ...this.at, s: i }, false));
  }

  radios(name, title, labels, now, pick) {
    const box = this.get(name), shape = JSON.stringify(labels);
    box.hidden = labels.length < 2;
    if (box.dataset.shape !== shape) {
      box.dataset.shape = shape;
      const legend = make("legend", "", title), many = labels.length > 8;
      const select = make("select");
      select.setAttribute("aria-label", title);
      const made = labels.map((label, i) => {
        if (many) { const option = make("option", "", label); option.value = i; select.append(option); return option; }
        const out = make("label", "pick"), radio = make("input");
        radio.type = "radio";
        radio.name = name;
        radio.value = i;
        out.append(radio, make("span", "", label));
        return out;
      });
      box.replaceChildren(legend, ...(many ? [select] : made));
      box.onchange = (e) => pick(Number(e.target.value));
    }
    const select = box.querySelector("select");
    if (select) { select.value = now; }
    box.querySelectorAll("input").forEach((radio) => { radio.checked = Number(radio.value) === now; });
  }

  faults() {
    const box = this.get("faults");
    this.d.faults.forEach(([, words], i) => {
      const button = make("button", "", words);
      button.type = "button";
      button.dataset.do = "fault-" + i;
      button.append(make("kbd", "", "⇧" + (i + 1)));
      button.onclick = () => this.mark(i);
      box.append(button);
    });
  }

  tally() {
    this.get("tally").textContent = this.get("large").querySelector(".count").textContent = this.counted();
    this.root.querySelectorAll('[data-do="undo"]').forEach((b) => { b.disabled = !this.keeper.done.length; });
    this.root.querySelectorAll('[data-do="onward"]').forEach((b) => b.setAttribute("aria-pressed", String(this.onward)));
  }

  status(state) {
    const words = { away: "Not saved yet: the studio does not answer. Your ratings stay here, and are saved as soon as it does.", saving: "Saving…", saved: "Saved", "": "" }[state];
    this.root.querySelectorAll(".status").forEach((s) => { if (s.textContent !== words) { s.textContent = words; } s.classList.toggle("away", state === "away"); });
  }

  tell(words) { const place = this.large.isOpen ? this.large.get("told") : this.get("spoken"); place.textContent = words; }

  close() {
    document.removeEventListener("keydown", this.outside);
    window.removeEventListener("focus", this.look);
    if (this.table) { this.table.close(); }
    if (this.large) { this.large.noteDone(); this.large.close(); }
    if (this.keeper) { this.keeper.close(); }
  }
}

const boards = new WeakMap();

export default function (c) {
  const root = c.parentElement.querySelector(".board");
  let board = boards.get(root);
  if (!board) { board = new Board(root); boards.set(root, board); }
  board.update(c.data, c.setStateValue);
  return () => { board.close(); boards.delete(root); };
}
