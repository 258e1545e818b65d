import assert from "node:assert/strict";
import test from "node:test";
import { History, SECONDS, STEPS } from "../static/history.js";
import { FOREST, message, record } from "./records.js";

const ids = (history) => [...history.shown.keys()].sort().join(" ");

function lived() {
  const history = new History();
  history.push(message(100, FOREST.slice(0, 2)));
  history.push(message(101, [FOREST[2], { ...FOREST[0], hits: 2 }]));
  history.push(message(102, [FOREST[5]], ["a"], 1));
  return history;
}

test("each moment can be looked at again, back and forth", () => {
  const history = lived(), seen = [];
  history.hold();
  for (const at of [1, 2, 3, 2, 1, 3, 1]) { history.seek(at); seen.push(`${ids(history)} ${history.shown.get("trunk").hits}`); }
  assert.deepEqual(seen, ["a trunk 0", "a b trunk 2", "b c trunk 2", "a b trunk 2", "a trunk 0", "b c trunk 2", "a trunk 0"]);
  assert.equal(history.indexAt(101.5), 2);
  assert.equal(history.indexAt(1), 1);
});

test("a moment that is held stays while others come", () => {
  const history = lived();
  history.hold(); history.seek(2);
  history.push(message(103, [FOREST[3]]));
  assert.equal(ids(history), "a b trunk");
  history.goLive();
  assert.equal(ids(history), "b b1 c trunk");
});

test("hits, evictions and new nodes are told apart and counted", () => {
  const history = lived(), kinds = (seconds) => [...history.recent(seconds)].map(([id, { kind }]) => `${id} ${kind}`).sort();
  assert.deepEqual(kinds(0.5), ["a evicted", "c made"]);
  assert.deepEqual(kinds(1.5), ["a evicted", "b made", "c made", "trunk hit"]);
  const parts = history.parts(2);
  assert.deepEqual(parts.map(({ hits, evicted, made }) => [hits, evicted, made]), [[0, 0, 2], [2, 1, 2]]);
});

test("a leaf that grows or is split is not evicted, and keeps its place among its siblings", () => {
  const history = lived(), kindsOf = () => [...history.recent(0.5)].map(([id, { kind }]) => `${id} ${kind}`).sort();
  history.push(message(103, [record("c'", "trunk", 15, "Why? Because.")], ["c"], 1));
  assert.deepEqual(kindsOf(), ["c ended", "c' changed"]);
  assert.equal(history.live.get("c'").seen, FOREST[5].seen);
  assert.equal(history.live.get("c'").grewFrom, "c");
  history.push(message(104, [record("w", "trunk", 15, "Wh"), record("y", "w", 17, "y? Because of me")], ["c'"], 1));
  assert.deepEqual(kindsOf(), ["c' ended", "w changed", "y made"]);
  history.push(message(105, [record("y'", "w", 17, "y?")], ["y"], 2));
  assert.deepEqual(kindsOf(), ["y evicted", "y' changed"]);
});

test("what runs is neither made nor evicted", () => {
  const history = lived();
  history.push(message(103, [record("run-1", "b", 19, "I am", { running: 2 })], [], 1));
  history.push(message(104, [], ["run-1"], 1));
  assert.deepEqual([...history.recent(5)].find(([id]) => id === "run-1")[1].kind, "ended");
});

test("what is kept is bounded in time and in steps", () => {
  const history = new History();
  history.push(message(0, FOREST));
  for (let i = 1; i <= 3000; i++) history.push(message(i, [{ ...FOREST[1], hits: i }]));
  assert.ok(history.last - history.first <= SECONDS && history.entries.length <= SECONDS + 1);
  history.hold(); history.seek(0);
  assert.equal(history.shown.get("a").hits, history.first);
  for (let i = 1; i <= 3; i++)
    history.push(message(3000 + i, Array.from({ length: STEPS / 2 }, (_, j) => record(`${i}/${j}`, null, 0, "x"))));
  assert.ok(history.entries.reduce((count, entry) => count + entry.steps.length, 0) <= STEPS);
  assert.equal(history.cursor, 1);
  history.goLive();
  assert.equal(history.shown.size, history.live.size);
});
