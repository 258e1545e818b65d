// What the server said of the tree, now and over the last minutes: a bounded list of steps that are undone and redone.
// Knows nothing of drawing.

export const SECONDS = 600, STEPS = 200_000;

export class History {
  live = new Map();      // id -> what the server last said
  shown = new Map();     // the same, at the moment that is looked at
  entries = [];          // { time, counters, steps: [id, before, after, kind], figures }; the first has no steps any more
  cursor = 0;            // how many entries are in `shown`
  held = false;          // whether what comes is only kept, and the moment that is looked at stays
  #numSteps = 0;
  #numSeen = 0;
  #numEvicted = 0;

  get first() { return this.entries[0]?.time ?? 0; }
  get last() { return this.entries.at(-1)?.time ?? 0; }
  get time() { return this.entries[this.cursor - 1]?.time ?? 0; }
  get counters() { return this.entries[this.cursor - 1]?.counters ?? {}; }

  clear() {
    this.live.clear(); this.shown.clear();
    this.entries.length = this.cursor = this.#numSteps = this.#numEvicted = 0;
    this.held = false;
  }

  hold() { this.held = true; }
  goLive() { this.held = false; this.seek(this.entries.length); }

  push(message) {
    const { time, counters } = message, steps = this.#steps(message);
    for (const [id, , after] of steps) put(this.live, id, after);
    this.entries.push({ time, counters, steps, figures: figuresOf(steps) });
    this.#numSteps += steps.length;
    if (!this.held) this.seek(this.entries.length);
    this.#trim();
  }

  #steps({ changed, gone, counters }) {
    const steps = [], from = continuations(changed, gone, this.live), evicts = counters.evicted_blocks > this.#numEvicted;
    const kept = new Set();
    for (const after of changed) {
      const before = this.live.get(after.id) ?? null, same = before ?? from.get(after.id);
      after.seen = same?.seen ?? ++this.#numSeen;
      if (same && !before) after.grewFrom = same.id;
      if (same && (after.tokens >= same.tokens || !evicts)) kept.add(same.id);
      const kind = isRun(after) ? "runs" : !same ? "made" : after.hits > same.hits ? "hit" : "changed";
      steps.push([after.id, before, after, kind]);
    }
    for (const id of gone) {
      const before = this.live.get(id);
      if (before) steps.push([id, before, null, kept.has(id) || isRun(before) ? "ended" : "evicted"]);
    }
    this.#numEvicted = counters.evicted_blocks;
    return steps;
  }

  #trim() {
    const drop = (entry) => { this.#numSteps -= entry.steps.length; entry.steps = []; };
    while (this.entries.length > 1 && (this.last - this.first > SECONDS || this.#numSteps > STEPS)) {
      if (this.cursor < 2) this.seek(2);
      this.entries.shift(); this.cursor -= 1;
      drop(this.entries[0]);
    }
    if (this.entries.length) drop(this.entries[0]);   // there is nothing before it to go back to
  }

  // Look at the tree as it was after so many entries.
  seek(index) {
    const wanted = Math.max(Math.min(1, this.entries.length), Math.min(this.entries.length, index));
    while (this.cursor < wanted) for (const [id, , after] of this.entries[this.cursor++].steps) put(this.shown, id, after);
    if (this.cursor <= wanted) return;
    while (this.cursor > wanted) {
      const { steps } = this.entries[--this.cursor];
      for (let i = steps.length - 1; i >= 0; i--) put(this.shown, steps[i][0], steps[i][1]);
    }
  }

  // How many entries there were at a time, at least the first.
  indexAt(time) {
    let low = 1, high = this.entries.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.entries[middle - 1].time <= time) low = middle; else high = middle - 1;
    }
    return low;
  }

  // What happened to nodes in the seconds before the moment that is looked at: id -> { kind, time, record }.
  recent(seconds, now = this.time) {
    const found = new Map();
    for (let i = this.cursor - 1; i > 0 && this.entries[i].time > now - seconds; i--)
      for (const [id, before, after, kind] of this.entries[i].steps)
        if (!found.has(id)) found.set(id, { kind, time: this.entries[i].time, record: after ?? before });
    return found;
  }

  // Hits, evictions and new nodes in equal parts of the time that is known.
  parts(count) {
    const made = Array.from({ length: count }, () => ({ hits: 0, evicted: 0, made: 0 }));
    const length = Math.max(this.last - this.first, 1e-9);
    for (const { time, figures } of this.entries) {
      const part = made[Math.min(count - 1, Math.floor((time - this.first) / length * count))];
      for (const name of Object.keys(part)) part[name] += figures[name];
    }
    return made;
  }
}

const isRun = (record) => record.running !== undefined;
const put = (map, id, record) => record ? map.set(id, record) : map.delete(id);

// A leaf that is written to has another id, and so has what is left of it when its end is evicted: the new record's
// id -> the record that it goes on from. No two children of a node begin with the same token.
function continuations(changed, gone, live) {
  const found = new Map(), byPlace = new Map();
  const place = (record) => `${record.parent}/${record.start}/${record.namespace}`;
  for (const id of gone) {
    const record = live.get(id);
    if (!record || isRun(record)) continue;
    if (!byPlace.has(place(record))) byPlace.set(place(record), []);
    byPlace.get(place(record)).push(record);
  }
  for (const record of changed) {
    if (isRun(record) || live.has(record.id)) continue;
    const before = byPlace.get(place(record))?.find((other) => beginsAs(record.text, other.text));
    if (before) found.set(record.id, before);
  }
  return found;
}
function beginsAs(one, other) {
  const length = Math.min(12, one.length, other.length);
  return length > 0 && one.slice(0, length) === other.slice(0, length);
}

function figuresOf(steps) {
  const figures = { hits: 0, evicted: 0, made: 0 };
  for (const [, before, after, kind] of steps) {
    if (kind === "hit") figures.hits += after.hits - (before?.hits ?? 0);
    else if (kind === "evicted") figures.evicted += 1;
    else if (kind === "made") figures.made += 1;
  }
  return figures;
}
