// The browser's half of the captions table. Every change made in a cell is kept here, numbered, until the server says in
// the data of a row that it has stored that number; what is sent is always the whole of what is still kept. So a change
// cannot be lost between two answers, however fast somebody types, and a row shows what was typed at once.
(window.captionGrid = window.captionGrid || (() => {
  const box = Date.now().toString(36) + Math.random().toString(36).slice(2);
  const kept = new Map();
  let count = 0;
  let stored = 0;
  let marked = [];

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
  };

  const changed = (e) => {
    const field = e.colDef.field;
    const is = field === "caption" ? String(e.newValue == null ? "" : e.newValue) : Boolean(e.newValue);
    keep(e.data.name, field, is, e.oldValue);
    e.api.refreshCells({ rowNodes: [e.node], force: true });
  };

  const collect = (p) => {
    const e = p.eventData;
    if (p.streamlitRerunEventTriggerName === "cellEditRequest") { changed(e); }
    marked = e.api.getSelectedRows().map((row) => row.name);
    return { box: box, changes: Array.from(kept.values()).sort((a, b) => a.seq - b.seq), marked: marked };
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
      const key = p.eventKey;
      const text = p.value == null ? "" : String(p.value);
      if (key === "Backspace" || key === "Delete") { this.gui.value = ""; }
      else { this.gui.value = key && key.length === 1 ? key : text; }
      this.gui.addEventListener("input", () => this.fit());
      this.gui.addEventListener("keydown", (e) => {
        const stays = ["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown"];
        if (e.isComposing || stays.includes(e.key) || (e.key === "Enter" && e.shiftKey)) { e.stopPropagation(); }
      });
      this.left = () => p.api.stopEditing();
      window.addEventListener("blur", this.left);
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
    destroy() { window.removeEventListener("blur", this.left); }
  }

  return { value: value, collect: collect, forget: forget, Picture: Picture, Facts: Facts, Editor: Editor };
})())
