// The browser's half of the captions table. Every change made in a cell is kept here, numbered, until the server says in
// the data of a row that it has stored that number; what is sent is always the whole of what is still kept. So a change
// cannot be lost between two answers, however fast somebody types, and a row shows what was typed at once.
(window.captionGrid = window.captionGrid || (() => {
  const box = Date.now().toString(36) + Math.random().toString(36).slice(2);
  const kept = new Map();
  let count = 0;
  let stored = 0;
  let marked = [];
  let grid = null;
  let open = null;
  let tries = 0;
  let told = Date.now();
  let order = [];
  let reopened = null;
  let returns = 0;

  const place = (name, field) => field + "/" + name;
  const acknowledged = (data) => (data.box === box ? data.ack : 0);

  const value = (p) => {
    const field = p.colDef.field;
    const mine = kept.get(place(p.data.name, field));
    if (field === "approved") {
      // What somebody types counts as approved: shown before the server says so.
      const words = kept.get(place(p.data.name, "caption"));
      if (words && words.seq > acknowledged(p.data) && !(mine && mine.seq > words.seq)) { return words.value.trim() !== ""; }
    }
    return mine && mine.seq > acknowledged(p.data) ? mine.value : p.data[field];
  };

  // What the writer saw first stays, as long as the server has not told what became of it: that is what is on disk.
  const keep = (name, field, is, was) => {
    const at = place(name, field);
    const before = kept.get(at);
    count += 1;
    kept.set(at, { seq: count, name: name, field: field, value: is, seen: was, first: before ? before.first : was });
  };

  const forget = (api) => {
    api.forEachNode((node) => { stored = Math.max(stored, acknowledged(node.data)); });
    for (const [at, change] of kept) {
      if (change.seq <= stored) { kept.delete(at); }
    }
    grid = api;
    if (!kept.size) { tries = 0; warn(false); }
  };

  // A server that went away answers nothing, and one that was started anew knows nothing of what was typed before: what is
  // kept is told again, less and less often, until it is stored; meanwhile the user is told. Before the tab is closed or loaded
  // anew with words that are nowhere else, in an open cell or kept, the browser asks.
  const again = () => {
    if (!grid || !kept.size || grid.isDestroyed()) { return; }
    if (Date.now() - told > Math.min(60, 5 * 2 ** tries) * 1000) {
      tries += 1;
      warn(tries > 1);
      grid.dispatchEvent({ type: "selectionChanged", source: "api" });
    }
  };
  window.setInterval(again, 1000);
  window.addEventListener("beforeunload", (e) => { if ((kept.size && tries > 1) || (open && open.typed())) { e.preventDefault(); } });

  const warn = (on) => {
    const known = document.querySelector(".unsaved");
    if (!on) { if (known) { known.remove(); } return; }
    const place = document.querySelector(".ag-root-wrapper");
    if (known || !place) { return; }
    const made = line("Not saved yet: the studio does not answer. Your words stay here, and are saved as soon as it does.", "unsaved");
    made.setAttribute("role", "status");
    place.appendChild(made);
  };

  const changed = (e) => {
    const field = e.colDef.field;
    const is = field === "caption" ? String(e.newValue == null ? "" : e.newValue) : Boolean(e.newValue);
    keep(e.data.name, field, is, e.oldValue);
    e.api.refreshCells({ rowNodes: [e.node], force: true });
  };

  const collect = (p) => {
    const e = p.eventData;
    grid = e.api;
    told = Date.now();
    if (p.streamlitRerunEventTriggerName === "cellEditRequest") { changed(e); }
    marked = e.api.getSelectedRows().map((row) => row.name);
    return { box: box, changes: Array.from(kept.values()).sort((a, b) => a.seq - b.seq), marked: marked };
  };

  // New rows (a filter, an order, another page) come whenever the server is ready, also while somebody types. The grid closes an
  // open cell then and keeps its place by number, so that the next letters would go to another picture: the place follows
  // the picture, and a cell that the user did not leave is open again before the next key.
  const follow = (api) => {
    const before = order;
    order = [];
    api.forEachNodeAfterFilterAndSort((node) => { order[node.rowIndex] = node.data.name; });
    const at = api.getFocusedCell();
    const was = at ? before[at.rowIndex] : undefined;
    if (open || was === undefined || was === order[at.rowIndex]) { return; }
    const now = order.indexOf(was);
    if (now >= 0) { api.setFocusedCell(now, at.column); }
    else { api.clearFocusedCell(); }
  };

  const back = (api, name, column, words) => {
    if (api.isDestroyed()) { return; }
    const mine = api.getRowNode(name);
    returns += 1;
    if (!mine || mine.rowIndex == null || returns > 3) { api.clearFocusedCell(); return; }
    reopened = { name: name, words: words };
    api.ensureIndexVisible(mine.rowIndex);
    api.setFocusedCell(mine.rowIndex, column);
    api.startEditingCell({ rowIndex: mine.rowIndex, colKey: column });
    reopened = null;
    window.setTimeout(() => { if (open) { open.gui.focus({ preventScroll: true }); } });
  };

  const line = (words, name) => {
    const made = document.createElement("div");
    made.className = name;
    made.textContent = words;
    made.title = words;
    return made;
  };

  class Drawn {
    init(p) {
      this.gui = document.createElement("div");
      this.show(p);
    }
    getGui() { return this.gui; }
    refresh(p) { this.show(p); return true; }
  }

  class Picture extends Drawn {
    show(p) {
      const address = p.value || "";
      this.gui.title = p.data.name + "\n" + p.data.by;
      if (this.shown === address) { return; }
      this.shown = address;
      this.gui.className = "thumb";
      this.gui.replaceChildren();
      if (!address) { this.gui.textContent = "cannot be read"; return; }
      const img = document.createElement("img");
      img.src = address;
      img.alt = p.data.name;
      img.loading = "lazy";
      img.decoding = "async";
      this.gui.appendChild(img);
    }
  }

  class Facts extends Drawn {
    show(p) {
      this.gui.className = "facts";
      this.gui.replaceChildren(line(p.data.name, "name"), line(p.data.by, "by"));
    }
  }

  class Editor {
    init(p) {
      this.gui = document.createElement("textarea");
      this.gui.className = "typing";
      this.gui.setAttribute("aria-label", "Caption of " + p.data.name);
      this.gui.spellcheck = true;
      this.gui.style.width = Math.max(200, p.column.getActualWidth() - 2) + "px";
      this.cell = p.eGridCell;
      this.back = () => back(p.api, p.data.name, p.column, this.gui.value);
      this.ended = false;
      const key = p.eventKey;
      const text = p.value == null ? "" : String(p.value);
      if (key === "Backspace" || key === "Delete") { this.gui.value = ""; }
      else { this.gui.value = key && key.length === 1 ? key : text; }
      if (reopened && reopened.name === p.data.name) { this.gui.value = reopened.words; }
      this.was = text;
      open = this;
      this.gui.addEventListener("input", () => { returns = 0; this.fit(); });
      this.gui.addEventListener("keydown", (e) => {
        const stays = ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown"];
        // 229: the key belongs to an input method; Safari says so only in this way for the Enter that ends a composition.
        if (e.isComposing || e.keyCode === 229 || stays.includes(e.key) || (e.key === "Enter" && e.shiftKey)) { e.stopPropagation(); }
        else if (["Enter", "Tab", "Escape"].includes(e.key)) { this.ended = true; }
      });
      this.left = () => { this.ended = true; p.api.stopEditing(); };
      this.elsewhere = (e) => { if (!this.gui.contains(e.target)) { this.ended = true; } };
      window.addEventListener("blur", this.left);
      document.addEventListener("pointerdown", this.elsewhere, true);
    }
    fit() {
      this.gui.style.height = "auto";
      const least = this.cell ? this.cell.clientHeight : 68;
      this.gui.style.height = Math.min(420, Math.max(least, this.gui.scrollHeight + 2)) + "px";
    }
    getGui() { return this.gui; }
    afterGuiAttached() {
      this.fit();
      this.gui.focus({ preventScroll: true });
      this.gui.setSelectionRange(this.gui.value.length, this.gui.value.length);
    }
    getValue() { return this.gui.value; }
    typed() { return this.gui.value !== this.was; }
    destroy() {
      window.removeEventListener("blur", this.left);
      document.removeEventListener("pointerdown", this.elsewhere, true);
      if (open === this) { open = null; }
      if (!this.ended) { queueMicrotask(this.back); }
    }
  }

  // In a narrow window the words need the room: the file is then told where the mouse rests on its picture.
  const resized = (e) => {
    const column = e.api.getColumn("name");
    const wide = e.clientWidth >= 600;
    if (column && e.clientWidth && column.isVisible() !== wide) { e.api.setColumnsVisible(["name"], wide); }
  };

  // Whoever writes with an input method starts with a key that stands for no letter: the cell opens as it does for others.
  const composed = (e) => {
    const key = e.event;
    if (!key || key.keyCode !== 229 || !e.colDef.editable || e.api.getEditingCells().length) { return; }
    e.api.startEditingCell({ rowIndex: e.rowIndex, colKey: e.column });
  };

  return { value: value, collect: collect, forget: forget, composed: composed, follow: follow, resized: resized, Picture: Picture, Facts: Facts, Editor: Editor };
})())
