// Keys, the pointer, fingers and the wheel, turned into what the page can do.

import { $ } from "./panel.js";

const STILL = 6, FOLD_WIDTH = 24, STEP = 1.4;

export function listen(page) {
  const canvas = $("view");
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !press(page, event)) return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.target.closest("input, select")) return;
    $("query").focus(); event.preventDefault();
  });
  listenToPointers(page, canvas);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) page.move(-(event.deltaX || event.deltaY) * lines, 0);
    else page.zoomAt(Math.exp(-event.deltaY * lines / 400), event.offsetX, event.offsetY);
  }, { passive: false });
  listenToTools(page, canvas);
}

function press(page, { key }) {
  const { camera, timeline } = page, select = (id) => { $(id).selectedIndex = ($(id).selectedIndex + 1) % 3; };
  const acts = {
    "+": () => page.zoom(STEP), "=": () => page.zoom(STEP), "-": () => page.zoom(1 / STEP), 0: () => page.fit(),
    z: () => page.frame(), Enter: () => page.toggleFold(page.selected), f: () => page.toggleFold(page.selected),
    n: () => page.nextMatch(1), N: () => page.nextMatch(-1), r: () => page.nextRun(),
    c: () => { select("colour"); page.recolour(); }, p: () => $("pause").click(), " ": () => timeline.toggle(),
    ",": () => timeline.step(-1), ".": () => timeline.step(1), Home: () => page.home(),
    PageUp: () => page.move(0, camera.height * 0.8), PageDown: () => page.move(0, -camera.height * 0.8),
    Escape: () => page.escape(),
  };
  if (key.startsWith("Arrow")) page.walk(key);
  else if (/^[1-6]$/.test(key)) { $("levels").value = key; page.showLevels(Number(key)); }
  else if (Object.hasOwn(acts, key)) acts[key]();
  else return false;
  return true;
}

function listenToPointers(page, canvas) {
  const down = new Map();         // pointer -> where it is
  let moved = 0, fingers = 0;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    if (down.size === 1) moved = fingers = 0;
    fingers = Math.max(fingers, down.size);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId), now = { x: event.offsetX, y: event.offsetY };
    if (!before) { if (event.pointerType === "mouse") page.hover(now.x, now.y); return; }
    moved += Math.hypot(now.x - before.x, now.y - before.y);
    if (down.size === 2) pinch(page, [...down.values()], [...down.entries()].map(([id, at]) => id === event.pointerId ? now : at));
    else if (moved > STILL) { page.move(now.x - before.x, now.y - before.y); page.unhover(); }
    down.set(event.pointerId, now);
  });
  const up = (event) => {
    if (!down.delete(event.pointerId) || down.size || fingers > 1 || moved > STILL || event.type === "pointercancel") return;
    tap(page, event.offsetX, event.offsetY);
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", () => page.unhover());
  canvas.addEventListener("dblclick", (event) => page.toggleFold(page.at(event.offsetX, event.offsetY)?.id));
}

function pinch(page, [a, b], [c, d]) {
  const middle = (one, two) => ({ x: (one.x + two.x) / 2, y: (one.y + two.y) / 2 }), from = middle(a, b), to = middle(c, d);
  page.move(to.x - from.x, to.y - from.y);
  page.zoomAt(Math.hypot(c.x - d.x, c.y - d.y) / Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)), to.x, to.y);
}

function tap(page, x, y) {
  const node = page.at(x, y), box = node && page.camera.toScreen(node);
  if (!node) return page.select(null);
  if (node.kids.length && box.h >= 14 && x - Math.max(0, box.x) < FOLD_WIDTH) page.toggleFold(node.id);
  else page.select(node.id);
}

function listenToTools(page, canvas) {
  $("colour").onchange = () => page.recolour();
  $("levels").onchange = () => page.showLevels(Number($("levels").value));
  $("in").onclick = () => page.zoom(STEP); $("out").onclick = () => page.zoom(1 / STEP); $("fit").onclick = () => page.fit();
  $("query").oninput = () => page.find($("query").value);
  $("find").onsubmit = (event) => { event.preventDefault(); page.nextMatch(1); };
  $("before").onclick = () => page.nextMatch(-1);
  $("query").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); page.nextMatch(-1); }
    else if (event.key === "Escape") { $("query").value = ""; page.find(""); canvas.focus(); }
    else if (event.key === "ArrowDown") { event.preventDefault(); canvas.focus(); }
  });
}

