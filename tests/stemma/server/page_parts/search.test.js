import assert from "node:assert/strict";
import test from "node:test";
import { layOut } from "../static/layout.js";
import { nextMatch, search } from "../static/search.js";
import { FOREST, record } from "./records.js";

const { all, nodes } = layOut(FOREST, [], new Set());
const found = (query) => search(all, query).map((node) => node.id);

test("letters' size and spaces do not matter", () => {
  assert.deepEqual(found("ARE  you"), ["b1", "b2"]);
  assert.deepEqual(found("since\nwhen"), ["b2"]);
  assert.deepEqual(found("nothing like it"), []);
  assert.deepEqual(found("   "), []);
});

test("a text over the ends of edges is found where it ends, and only there", () => {
  assert.deepEqual(found("terse. how old"), ["b2"]);
  assert.deepEqual(found("terse. h"), ["a", "b"]);
  assert.deepEqual(found("how"), ["b"]);
  const split = layOut([record("1", null, 0, "light"), record("2", "1", 5, "h"), record("3", "2", 6, "ouse, lighthouse")], [], new Set());
  assert.deepEqual(search(split.all, "lighthouse").map((node) => node.id), ["3"]);
});

test("next and previous go round", () => {
  const matches = search(all, "are ");
  assert.equal(nextMatch(matches, null, 1).id, "trunk");
  assert.equal(nextMatch(matches, nodes.get("trunk"), 1).id, "b1");
  assert.equal(nextMatch(matches, nodes.get("c"), 1).id, "trunk");
  assert.equal(nextMatch(matches, nodes.get("trunk"), -1).id, "b2");
  assert.equal(nextMatch([], null, 1), null);
});
