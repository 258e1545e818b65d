import assert from "node:assert/strict";
import test from "node:test";
import { ROW, firstBelow, foldsAt, layOut, nodeAt, pathTo, reach } from "../static/layout.js";
import { FOREST, record, wide } from "./records.js";

const stands = (records, folded = []) => layOut(records, [], new Set(folded));

test("a parent spans its children's rows, and they begin where it ends", () => {
  const { nodes, height } = stands(FOREST);
  for (const node of nodes.values()) {
    assert.ok(node.y1 - node.y0 >= ROW && node.x1 > node.x0);
    if (!node.parent) continue;
    assert.equal(node.x0, node.parent.x1);
    assert.ok(node.parent.y0 <= node.y0 && node.y1 <= node.parent.y1);
  }
  assert.equal(height, 4 * ROW);
  assert.equal(nodes.get("trunk").size, 6);
});

test("no two nodes stand at one place, and each is found at its own", () => {
  const layout = stands(FOREST);
  for (const node of layout.all) assert.equal(nodeAt(layout, (node.x0 + node.x1) / 2, (node.y0 + node.y1) / 2), node);
  assert.equal(nodeAt(layout, layout.span + 1, 1), null);
  assert.equal(nodeAt(layout, 1, layout.height + 1), null);
});

test("one token can be read beside ten thousand", () => {
  const { nodes } = stands([record("one", null, 0, "x"), record("many", null, 0, "x", { tokens: 10_000 })]);
  const width = (id) => nodes.get(id).x1 - nodes.get(id).x0;
  assert.ok(width("one") > 60 && width("many") < 8 * width("one") && width("many") > 3 * width("one"));
});

test("what is folded takes one row, and what is below it knows", () => {
  const layout = stands(FOREST, ["b"]), at = (id) => layout.nodes.get(id);
  assert.equal(layout.height, 3 * ROW);
  assert.equal(at("b1").cover, at("b"));
  assert.deepEqual(layout.visible.map((node) => node.id), ["trunk", "a", "b", "c"]);
  assert.deepEqual(foldsAt(stands(FOREST), 1), ["trunk"]);
  assert.deepEqual(foldsAt(stands(FOREST), 2), ["b"]);
});

test("siblings keep their order when an edge is split", () => {
  const records = FOREST.map((one, seen) => ({ ...one, seen }));
  const split = [...records.filter((one) => one.id !== "b"), { ...records[2], id: "b", parent: "new", start: 17 },
    { ...record("new", "trunk", 15, "Ho"), seen: 99 }];
  assert.deepEqual(layOut(split, [], new Set()).nodes.get("trunk").kids.map((node) => node.id), ["a", "new", "c"]);
});

test("what was evicted a moment ago still has its place", () => {
  const { nodes, height } = layOut(FOREST.slice(0, -1), [FOREST.at(-1)], new Set());
  assert.ok(nodes.get("c").isGhost && !nodes.get("a").isGhost);
  assert.equal(height, 4 * ROW);
});

test("a chain of twenty thousand is laid out", () => {
  const chain = Array.from({ length: 20_000 }, (_, i) => record(String(i), i ? String(i - 1) : null, i, "x"));
  const layout = stands(chain);
  assert.equal(pathTo(layout.nodes.get("19999")).length, 20_000);
  assert.equal(layout.height, ROW);
});

test("siblings are found by their height, and how far a band reaches is known", () => {
  const layout = stands(wide()), { kids } = layout.nodes.get("top3");
  assert.equal(firstBelow(kids, kids[77].y0 + 1), 77);
  assert.equal(reach(layout, kids[7].y0, kids[9].y1), Math.max(kids[7].x1, kids[8].x1, kids[9].x1));
  assert.equal(reach(layout, 0, layout.height), layout.span);
});
