// What was said about cells and is not on the disk yet. Every change is numbered and kept, in this tab's own storage too, until
// the server says that it has stored that number; what is sent is always the whole of what is still kept. So a server that is
// stopped, a reload, or two answers that cross lose nothing, and a change that is told twice is stored once.

class Keeper {
  constructor(grid, status) {
    this.grid = grid;
    this.status = status;
    this.window = Date.now().toString(36) + Math.random().toString(36).slice(2);
    this.count = 0;
    this.kept = [];
    this.done = [];
    this.stored = 0;
    this.waiting = false;
    this.told = 0;
    this.tries = 0;
    this.send = null;
    for (const old of this.remembered().kept || []) { this.push(old.cell, old.what, old.value); }
    this.done = this.remembered().done || [];
    this.timer = window.setInterval(() => this.again(), 1000);
    this.leaving = (e) => { if (this.kept.length && this.tries > 1) { e.preventDefault(); } };
    window.addEventListener("beforeunload", this.leaving);
  }

  remembered() {
    try { return JSON.parse(sessionStorage.getItem("studio-said-" + this.grid) || "{}"); } catch { return {}; }
  }

  remember() {
    try { sessionStorage.setItem("studio-said-" + this.grid, JSON.stringify({ kept: this.kept, done: this.done.slice(-200) })); }
    catch { /* storage is full or forbidden: what is kept in the page still goes out */ }
  }

  push(cell, what, value) {
    this.count += 1;
    this.kept.push({ seq: this.count, cell: cell, what: what, value: value });
  }

  // Say something about a cell. before: what was said until now, for taking it back.
  say(cell, what, value, before) {
    const last = this.kept[this.kept.length - 1];
    if (what === "note" && last && last.what === "note" && last.cell === cell && !this.waiting) { last.value = value; }
    else { this.push(cell, what, value); }
    if (before !== undefined) {
      const open = this.done[this.done.length - 1];
      if (what === "note" && open && open.what === "note" && open.cell === cell) { open.after = value; }
      else { this.done.push({ cell: cell, what: what, before: before, after: value }); }
    }
    this.remember();
    this.go();
  }

  takeBack() { const last = this.done.pop(); this.remember(); return last; }

  go() {
    if (!this.kept.length || this.waiting || !this.send) { return; }
    this.waiting = true;
    this.told = Date.now();
    this.show();
    this.send({ window: this.window, changes: this.kept.slice(), at: this.told });
  }

  // The server said what it has stored.
  heard(ack) {
    if (ack && ack[0] === this.window) {
      if (ack[1] > this.stored) { this.stored = ack[1]; this.waiting = false; this.tries = 0; }
      const before = this.kept.length;
      this.kept = this.kept.filter((k) => k.seq > this.stored);
      if (this.kept.length !== before) { this.remember(); }
    }
    this.show();
    this.go();
  }

  again() {
    if (!this.kept.length || Date.now() - this.told < Math.min(30, 3 * 2 ** this.tries) * 1000) { return; }
    this.tries += 1;
    this.waiting = false;
    this.go();
  }

  show() {
    const away = this.kept.length && this.tries > 1;
    this.status(away ? "away" : this.kept.length ? "saving" : this.count ? "saved" : "");
  }

  // What is said about a cell, with what is not stored yet laid over it: [rating, tags, note].
  over(cell, said) {
    if (!this.kept.length) { return said; }
    let now = said;
    for (const k of this.kept) {
      if (k.cell !== cell) { continue; }
      if (now === said) { now = [said[0], said[1].slice(), said[2]]; }
      if (k.what === "rating") { now[0] = k.value || 0; }
      else if (k.what === "note") { now[2] = k.value; }
      else { now[1] = now[1].filter((t) => t !== k.what); if (k.value) { now[1].push(k.what); } }
    }
    return now;
  }

  close() {
    window.clearInterval(this.timer);
    window.removeEventListener("beforeunload", this.leaving);
  }
}
