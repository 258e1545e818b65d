// What the server says of nodes, made up.

export function record(id, parent, start, text, more = {}) {
  return { id, parent, namespace: "", start, tokens: text.length, blocks: 1, references: 0, hits: 0, used: 0, text, ...more };
}

// A trunk with three children, the second of which has two.
export const FOREST = [
  record("trunk", null, 0, "You are terse. "), record("a", "trunk", 15, "Hello"), record("b", "trunk", 15, "How "),
  record("b1", "b", 19, "are you?"), record("b2", "b", 19, "old are you, and since when?"), record("c", "trunk", 15, "Why?"),
];

export const message = (time, changed, gone = [], evicted = 0) => ({ time, changed, gone, counters: { evicted_blocks: evicted } });

// Twenty times fifty leaves below as many parents.
export function wide() {
  const made = [];
  for (let i = 0; i < 20; i++) {
    made.push(record(`top${i}`, null, 0, `top ${i} `));
    for (let j = 0; j < 500; j++) made.push(record(`leaf${i}-${j}`, `top${i}`, 6, `leaf ${j}`));
  }
  return made.map((one, seen) => ({ ...one, seen }));
}
