// Which nodes hold a text. A text that begins in a parent's edge and ends in a child's is found in the child, as edges
// split anywhere, in the middle of words too.

export const plain = (text) => text.toLowerCase().replace(/\s+/g, " ");

// Of nodes with their parents, those whose edge holds the end of the query.
export function search(nodes, query) {
  const wanted = plain(query.trim());
  if (!wanted) return [];
  return nodes.filter((node) => {
    const before = tail(node.parent, wanted.length - 1), text = plainOf(node.record);
    return (before + text).indexOf(wanted, Math.max(0, before.length - wanted.length + 1)) >= 0;
  });
}

function plainOf(record) {
  if (record.plain === undefined) record.plain = plain(record.text);
  return record.plain;
}

// The last letters of what leads to a node's end.
function tail(node, length) {
  let text = "";
  for (let at = node; at && text.length < length; at = at.parent) text = plainOf(at.record) + text;
  return length > 0 ? text.slice(-length) : "";
}

// The match after (or before) the node that is selected, round the end.
export function nextMatch(matches, from, step) {
  if (!matches.length) return null;
  const place = from?.place ?? (step > 0 ? -1 : Infinity);
  const next = step > 0 ? matches.find((node) => node.place > place) : matches.findLast((node) => node.place < place);
  return next ?? matches.at(step > 0 ? 0 : -1);
}
