import assert from "node:assert/strict";
import test from "node:test";
import { events } from "../static/feed.js";
import { Labels, oneLine } from "../static/labels.js";

const labels = new Labels((text) => 6 * text.length);

test("a text is shortened to what fits, and never in the middle of a letter", () => {
  assert.equal(labels.fit("short", 60), "short");
  assert.equal(labels.fit("rather too long for it", 60), "rather to…");
  assert.equal(labels.fit("anything", 5), "");
  for (let width = 6; width < 60; width += 6) assert.ok(labels.fit("🦜🦜🦜🦜🦜", width).isWellFormed?.() ?? true);
});

test("lines are broken at spaces, the last is shortened", () => {
  assert.deepEqual(labels.lines("one two three four five six", 72, 2), ["one two", "three four…"]);
  assert.deepEqual(labels.lines("one two", 72, 3), ["one two"]);
  assert.deepEqual(labels.lines("a".repeat(30), 72, 9), ["a".repeat(12), "a".repeat(12), "a".repeat(6)]);
});

test("ends of lines are shown", () => assert.equal(oneLine({ text: " user\n\n Hi\tthere \n" }), "user⏎Hi there⏎"));

test("events come whole, however they are cut, and comments are passed over", async () => {
  const text = 'data: {"a":1}\n\n: waiting\n\ndata: {"b":"ü"}\n\n', bytes = new TextEncoder().encode(text), found = [];
  const body = new ReadableStream({ start(to) { for (const byte of bytes) to.enqueue(Uint8Array.of(byte)); to.close(); } });
  for await (const event of events(body)) found.push(event);
  assert.deepEqual(found, ['{"a":1}', '{"b":"ü"}']);
});
