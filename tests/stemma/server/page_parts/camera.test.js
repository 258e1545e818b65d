import assert from "node:assert/strict";
import test from "node:test";
import { Camera, TOP } from "../static/camera.js";
import { layOut } from "../static/layout.js";
import { FOREST, wide } from "./records.js";

function looks(records, width = 1200, height = 700) {
  const layout = layOut(records, [], new Set()), camera = new Camera(layout);
  camera.follow(layout); camera.resize(width, height);
  return { layout, camera };
}
const onScreen = (camera, layout) => layout.visible.some((node) => {
  const box = camera.toScreen(node);
  return box.x < camera.width && box.x + box.w > 0 && box.y < camera.height && box.y + box.h > TOP;
});

test("a small tree is all there, and a large one begins at its beginning, readable", () => {
  const small = looks(FOREST), large = looks(wide());
  assert.ok(small.layout.all.every((node) => small.camera.shows(node)));
  assert.equal(large.camera.zoom, 1);
  assert.deepEqual([large.camera.x, large.camera.y], [0, 0]);
  large.camera.fit();
  const last = large.camera.toScreen(large.layout.all.at(-1));
  assert.ok(last.y + last.h <= 700 && last.x + last.w <= 1200);
});

test("wherever it is moved and zoomed, something of the tree is on the screen", () => {
  let state = 7;
  const random = () => (state = state * 16807 % 2147483647) / 2147483647;
  for (const records of [FOREST, wide()]) {
    const { layout, camera } = looks(records, 390, 600);
    for (let i = 0; i < 2000; i++) {
      if (random() < 0.5) camera.move((random() - 0.5) * 5000, (random() - 0.5) * 50_000);
      else camera.zoomAt(Math.exp((random() - 0.5) * 4), random() * 390, random() * 600);
      assert.ok(onScreen(camera, layout), `nothing to see at ${camera.x}, ${camera.y}, ${camera.zoom}`);
    }
  }
});

test("what is under the pointer stays under it", () => {
  const { camera } = looks(wide());
  camera.move(0, -20_000);
  const before = camera.toLayout(200, 300);
  camera.zoomAt(1.5, 200, 300);
  const after = camera.toLayout(200, 300);
  assert.ok(Math.abs(after.x - before.x) < 1 && Math.abs(after.y - before.y) < 1);
});

test("what is revealed is seen, also above something that covers the bottom", () => {
  const { layout, camera } = looks(wide(), 390, 600);
  camera.covered = 280;
  for (const id of ["leaf19-499", "top7", "leaf0-0", "leaf11-250", "top0"]) {
    const node = layout.nodes.get(id);
    camera.reveal(node, false);
    const box = camera.toScreen(node);
    assert.ok(camera.shows(node), id);
    assert.ok(id.startsWith("top") || box.y + box.h <= 600 - 280, id);
  }
});

test("a tree that grows leaves what is looked at where it is", () => {
  const records = wide(), { layout, camera } = looks(records), node = layout.nodes.get("leaf9-9");
  camera.reveal(node, false);
  const before = camera.toScreen(node), more = [{ ...records[1], id: "more", text: "more", seen: 1.5 }, ...records];
  const grown = layOut(more, [], new Set());
  camera.follow(grown, node, grown.nodes.get("leaf9-9"));
  assert.deepEqual(camera.toScreen(grown.nodes.get("leaf9-9")), before);
});
