// Where nodes stand. A node's children stand to its right, a parent spans their rows. A node's width grows with the
// logarithm of its tokens, so that one token can be read beside thousands. Knows nothing of screens.

export const ROW = 24;
export const widthOf = (tokens) => 56 + 30 * Math.log2(1 + tokens);

// records: what the server says of each node; ghosts: those that were evicted a moment ago; folded: ids.
export function layOut(records, ghosts, folded) {
  const nodes = new Map();
  for (const record of records) nodes.set(record.id, nodeOf(record, false));
  for (const record of ghosts) if (!nodes.has(record.id)) nodes.set(record.id, nodeOf(record, true));
  const tops = [];
  for (const node of nodes.values()) {
    node.parent = node.record.parent ? nodes.get(node.record.parent) ?? null : null;
    if (!node.parent) tops.push(node);
    else if (node.parent.kids === NONE) node.parent.kids = [node];
    else node.parent.kids.push(node);
  }
  order(tops, nodes);
  const all = inOrder(tops, folded), visible = all.filter((node) => !node.cover);
  const height = stand(visible, folded);
  const span = visible.reduce((most, node) => Math.max(most, node.x1), 1);
  return { nodes, tops, all, visible, span, height: Math.max(height, ROW),
    runs: all.filter((node) => node.record.running !== undefined),
    tenants: [...new Set(tops.map((node) => node.record.namespace))].sort() };
}

const NONE = Object.freeze([]);

function nodeOf(record, isGhost) {
  return { id: record.id, record, isGhost, parent: null, kids: NONE, shown: NONE, cover: null, depth: 0, place: 0, size: 1,
    seen: record.seen ?? 0, x0: 0, x1: 0, y0: 0, y1: 0, far: 0 };
}

// Siblings stand in the order in which they were first seen; a node that an edge was split into stands where that stood.
function order(tops, nodes) {
  const found = tops.slice();
  for (let i = 0; i < found.length; i++) for (const kid of found[i].kids) found.push(kid);
  for (let i = found.length - 1; i >= 0; i--) {
    const { parent, seen, size } = found[i];
    if (parent) { parent.seen = Math.min(parent.seen, seen); parent.size += size; }
  }
  const compare = (a, b) => a.seen - b.seen || (a.id < b.id ? -1 : 1);
  for (const node of nodes.values()) if (node.kids.length > 1) node.kids.sort(compare);
  tops.sort((a, b) => a.record.namespace < b.record.namespace ? -1 : a.record.namespace > b.record.namespace ? 1 : compare(a, b));
}

// Parents before children; what is inside a folded node knows by which it is covered.
function inOrder(tops, folded) {
  const found = [], stack = tops.slice().reverse();
  while (stack.length) {
    const node = stack.pop(), { parent } = node;
    node.place = found.length; node.depth = parent ? parent.depth + 1 : 0;
    node.cover = parent ? parent.cover ?? (folded.has(parent.id) ? parent : null) : null;
    found.push(node);
    for (let i = node.kids.length - 1; i >= 0; i--) stack.push(node.kids[i]);
  }
  return found;
}

function stand(visible, folded) {
  let y = 0;
  for (const node of visible) {
    node.shown = folded.has(node.id) ? NONE : node.kids;
    node.x0 = node.parent ? node.parent.x1 : 0; node.x1 = node.far = node.x0 + widthOf(node.record.tokens);
    if (!node.shown.length) { node.y0 = y; y += ROW; node.y1 = y; }
  }
  for (let i = visible.length - 1; i >= 0; i--) {
    const node = visible[i];
    if (node.shown.length) { node.y0 = node.shown[0].y0; node.y1 = node.shown.at(-1).y1; }
    if (node.parent) node.parent.far = Math.max(node.parent.far, node.far);
  }
  return y;
}

// The first of siblings that ends below y.
export function firstBelow(siblings, y, low = 0) {
  let high = siblings.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (siblings[middle].y1 > y) high = middle; else low = middle + 1;
  }
  return low;
}

// The node at a place, or null.
export function nodeAt(layout, x, y) {
  let siblings = layout.tops;
  for (;;) {
    const node = siblings[firstBelow(siblings, y)];
    if (!node || node.y0 > y || node.x0 > x) return null;
    if (x < node.x1) return node;
    siblings = node.shown;
  }
}

// How far to the right anything reaches between two heights.
export function reach(layout, top, bottom) {
  let most = 0;
  const stack = [layout.tops];
  while (stack.length) {
    const siblings = stack.pop();
    for (let i = firstBelow(siblings, top); i < siblings.length && siblings[i].y0 < bottom; i++) {
      const node = siblings[i];
      if (node.far <= most) continue;
      if (node.y0 >= top && node.y1 <= bottom) most = node.far;
      else { most = Math.max(most, node.x1); stack.push(node.shown); }
    }
  }
  return most;
}

// From the top down to the node.
export function pathTo(node) {
  const path = [];
  for (let at = node; at; at = at.parent) path.push(at);
  return path.reverse();
}

// Ids of the nodes at a depth that have children: fold them and so many levels are left.
export const foldsAt = (layout, levels) =>
  layout.all.filter((node) => node.depth === levels - 1 && node.kids.length).map((node) => node.id);
