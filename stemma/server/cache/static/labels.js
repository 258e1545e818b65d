// Texts that fit into a width: shortened with an ellipsis, or broken into lines. What was measured is remembered.

const MOST = 20_000;

export class Labels {
  #measure; #known = new Map();

  constructor(measure) { this.#measure = measure; }

  // Widths are taken in steps, so that zooming measures little anew.
  fit(text, width) {
    const room = Math.floor(width / 6) * 6;
    return this.#remember(`${room}/${text}`, () => this.#cut(text, room));
  }

  lines(text, width, most) {
    const room = Math.floor(width / 12) * 12;
    return this.#remember(`${room}/${most}/${text}`, () => {
      const found = [];
      for (let rest = text; rest && found.length < most;) {
        if (found.length === most - 1) { found.push(this.#cut(rest, room)); break; }
        const end = this.#breakAt(rest, room);
        found.push(rest.slice(0, end).trimEnd()); rest = rest.slice(end).trimStart();
      }
      return found;
    });
  }

  #breakAt(text, width) {
    const most = this.#longest(text, width);
    if (most >= text.length) return text.length;
    const space = text.lastIndexOf(" ", most);
    return space > most / 2 ? space : Math.max(1, most);
  }
  #cut(text, width) {
    if (this.#measure(text) <= width) return text;
    const most = this.#longest(text, width - this.#measure("…"));
    return most > 0 ? text.slice(0, most).trimEnd() + "…" : "";
  }
  #longest(text, width) {
    let low = 0, high = text.length;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#measure(text.slice(0, middle)) <= width) low = middle; else high = middle - 1;
    }
    return low && text.charCodeAt(low - 1) >> 10 === 0x36 ? low - 1 : low;   // not between two halves of a letter
  }
  #remember(key, make) {
    let found = this.#known.get(key);
    if (found === undefined) {
      if (this.#known.size >= MOST) this.#known.clear();
      this.#known.set(key, found = make());
    }
    return found;
  }
}

// One line of a node's text: ends of lines are shown, as they are in the terminal.
export function oneLine(record) {
  if (record.line === undefined)
    record.line = record.text.replace(/[^\S\n]+/g, " ").replace(/\s*\n\s*/g, "⏎").trim().slice(0, 400);
  return record.line;
}
