// Paints what is on the screen of a layout, and nothing else: siblings are looked up by their height, and those thinner
// than a pixel share one. Tells what it painted, so that tests can count the work.

import { firstBelow, pathTo } from "./layout.js";
import { fillOf, inkOn } from "./colours.js";
import { TOP } from "./camera.js";
import { oneLine } from "./labels.js";

export const FONT = "12px system-ui, -apple-system, 'Segoe UI', sans-serif";
const LINE = 16, FOLD = 18;

// look: { by, scheme, now, tenants, ink: {...}, labels, recent, matches, selected, hovered, folded, phase, seconds }
export function paint(pen, layout, camera, look) {
  const done = { visited: 0, blocks: 0, labels: [] };
  pen.clearRect(0, 0, camera.width, camera.height);
  pen.font = FONT; pen.textBaseline = "middle"; pen.lineJoin = "round";
  pen.save(); pen.beginPath(); pen.rect(0, TOP, camera.width, camera.height - TOP); pen.clip();
  for (const node of seen(layout, camera, done)) block(pen, node, camera, look, done);
  marks(pen, layout, camera, look);
  for (const run of layout.runs) flow(pen, run.cover ?? run, camera, look);
  pen.restore();
  ruler(pen, layout, camera, look);
  return done;
}

// The nodes on the screen, at most one for each row of pixels among siblings.
function* seen(layout, camera, done) {
  const { x1, y0, y1 } = camera.window, pixel = 1 / camera.zoom, stack = [layout.tops];
  while (stack.length) {
    const siblings = stack.pop();
    for (let i = firstBelow(siblings, y0); i < siblings.length;) {
      const node = siblings[i];
      done.visited += 1;
      if (node.y0 > y1 || node.x0 > x1) break;
      yield node;
      if (node.y1 - node.y0 >= pixel) { if (node.shown.length) stack.push(node.shown); i += 1; }
      else i = Math.max(i + 1, firstBelow(siblings, node.y0 + pixel, i));
    }
  }
}

function block(pen, node, camera, look, done) {
  const box = camera.toScreen(node), thin = box.h < 1;
  if (thin) box.w = (node.far - node.x0) * camera.across;
  if (box.x + box.w < 0) return;
  const gap = box.h > 5 ? 1.5 : box.h > 3 ? 0.75 : 0, w = Math.max(box.w - gap, 1), h = Math.max(box.h - gap, 1);
  const fill = node.isGhost ? look.ink.evicted : fillOf(node.record, look), { x, y } = box;
  done.blocks += 1;
  pen.globalAlpha = faintness(node, look);
  pen.fillStyle = fill;
  pen.beginPath();
  if (h > 8) pen.roundRect(x, y, w, h, Math.min(4, h / 4)); else pen.rect(x, y, w, h);
  pen.fill();
  if (node.shown.length === 0 && node.kids.length && h > 6) pages(pen, x, y, w, h, fill);
  if (node.record.running !== undefined && h > 2) stripes(pen, x, y, w, h, look);
  if (node.record.marks?.length && h > 4) places(pen, node.record, { x, y, w, h }, fill);
  if (h >= 14 && w >= 26) label(pen, node, { x, y, w, h }, fill, camera, look, done);
  pen.globalAlpha = 1;
}

// Where a model with windows or states can go on: a tick at its token, with a point on top.
function places(pen, record, { x, y, w, h }, fill) {
  pen.strokeStyle = pen.fillStyle = inkOn(fill); pen.lineWidth = 1;
  for (const place of record.marks) {
    const px = Math.round(x + w * (place - record.start) / record.tokens) - 1.5;
    pen.beginPath(); pen.moveTo(px, y + 1); pen.lineTo(px, y + h - 1); pen.stroke();
    pen.beginPath(); pen.arc(px, y + 2.5, 2, 0, 2 * Math.PI); pen.fill();
  }
}

function faintness(node, look) {
  if (node.isGhost) return Math.max(0.08, 0.85 * (1 - look.ageOf(node) / look.seconds));
  return look.matches && !look.matches.has(node.id) ? 0.28 : 1;
}

// A folded node looks like the first of a heap.
function pages(pen, x, y, w, h, fill) {
  pen.strokeStyle = fill; pen.lineWidth = 1.5;
  for (const [right, less] of [[3, 2], [6, 5]]) {
    if (h <= 2 * less + 2) break;
    pen.beginPath(); pen.moveTo(x + w + right, y + less); pen.lineTo(x + w + right, y + h - less); pen.stroke();
  }
}

function stripes(pen, x, y, w, h, look) {
  pen.save(); pen.beginPath(); pen.roundRect(x, y, w, h, Math.min(4, h / 4)); pen.clip();
  pen.strokeStyle = look.ink.stripes; pen.lineWidth = 3; pen.beginPath();
  const left = Math.max(x, -h - 12), right = Math.min(x + w, look.width + h);
  for (let at = left - h - 12 + (look.phase * 12) % 12; at < right; at += 12) { pen.moveTo(at, y + h); pen.lineTo(at + h, y); }
  pen.stroke(); pen.restore();
}

// Texts stand in the part of the block that is on the screen.
function label(pen, node, box, fill, camera, look, done) {
  const left = Math.max(box.x, 0), right = Math.min(box.x + box.w, camera.width);
  const top = Math.max(box.y, TOP), bottom = Math.min(box.y + box.h, camera.height);
  const tall = bottom - top, sign = node.kids.length && right - left >= 44 ? FOLD : 0;
  let room = right - left - 12 - sign;
  if (tall < 13 || room < 14) return;
  const note = noteOf(node), noteWidth = pen.measureText(note).width, many = tall >= 3 * LINE && room >= 90;
  const dimmed = look.matches && !look.matches.has(node.id), ink = dimmed ? look.ink.dim : inkOn(fill), x = left + 6 + sign;
  const beside = !many && room >= Math.min(110, pen.measureText(oneLine(node.record)).width) + noteWidth + 12;
  if (beside) room -= noteWidth + 10;
  const lines = many ? look.labels.lines(oneLine(node.record), room, Math.min(6, Math.floor(tall / LINE) - 1))
    : [look.labels.fit(oneLine(node.record), room)];
  const height = (lines.length + (many ? 1 : 0)) * LINE;
  let y = Math.max(top, Math.min(bottom - height, (top + bottom - height) / 2)) + LINE / 2;
  if (!many) y = (top + bottom) / 2;
  pen.fillStyle = ink;
  if (dimmed) pen.globalAlpha = 1;
  if (sign) pen.fillText(look.folded.has(node.id) ? "▸" : "▾", left + 6, y);
  const put = (text, px, alpha) => {
    const before = pen.globalAlpha;
    pen.globalAlpha = before * alpha; pen.fillText(text, px, y); pen.globalAlpha = before;
    done.labels.push({ id: node.id, text, x: px, y: y - 6, w: pen.measureText(text).width, h: 12 });
  };
  for (const line of lines) { if (line) put(line, x, 1); y += LINE; }
  if (many) put(look.labels.fit(`${note} · ${node.record.hits ?? 0} ${node.record.hits === 1 ? "hit" : "hits"}`, room), x, 0.7);
  else if (beside) { y -= LINE; put(note, right - 8 - noteWidth, 0.6); }
}

function noteOf(node) {
  if (!node.shown.length && node.kids.length) return `+${(node.size - 1).toLocaleString("en")}`;
  return `${node.record.tokens.toLocaleString("en")} t`;
}

// What was hit or made a moment ago, what is under the pointer, and what is selected.
function marks(pen, layout, camera, look) {
  for (const [id, { kind }] of look.recent) {
    const node = layout.nodes.get(id), shade = { hit: look.ink.hit, made: look.ink.made }[kind];
    if (!node || node.cover || !shade) continue;
    pen.globalAlpha = Math.max(0, 1 - look.ageOf(node) / look.seconds);
    outline(pen, camera.toScreen(node), shade, 2, look);
  }
  pen.globalAlpha = 1;
  if (look.matches) for (const id of look.matches) {
    const node = layout.nodes.get(id), box = node && !node.cover && camera.toScreen(node);
    if (box && box.h > 3 && onScreen(box, look)) outline(pen, box, look.ink.match, 2, look);
  }
  const { hovered, selected } = look, under = hovered && layout.nodes.get(hovered), chosen = selected && layout.nodes.get(selected);
  if (under && !under.cover) outline(pen, camera.toScreen(under), look.ink.focus, 1, look);
  if (chosen) outline(pen, camera.toScreen(chosen.cover ?? chosen), look.ink.focus, 3, look);
}
const onScreen = (box, look) => box.x < look.width && box.y < look.height && box.x + box.w > 0 && box.y + box.h > 0;

function outline(pen, box, shade, width, look) {
  if (!onScreen(box, look)) return;
  const x = Math.max(box.x - 1, -8), y = Math.max(box.y - 1, -8);
  const right = Math.min(box.x + box.w, look.width + 8), bottom = Math.min(box.y + box.h, look.height + 8);
  pen.strokeStyle = shade; pen.lineWidth = width;
  pen.beginPath(); pen.roundRect(x, y, Math.max(right - x, 2), Math.max(bottom - y, 2), 4); pen.stroke();
}

// A running request is a line through all that it shares, moving towards what it writes.
function flow(pen, run, camera, look) {
  const box = camera.toScreen(run), y = Math.round(box.y + box.h / 2 + Math.min(8, box.h / 2 - 2));
  const from = Math.max(-24, camera.toScreen(pathTo(run)[0]).x);
  pen.strokeStyle = look.ink.flow; pen.lineWidth = Math.max(1, Math.min(3, box.h / 4));
  pen.globalAlpha = 0.4;
  pen.beginPath(); pen.moveTo(from, y); pen.lineTo(Math.min(box.x + box.w - 2, look.width + 24), y); pen.stroke();
  pen.globalAlpha = 1;
  pen.setLineDash([10, 14]); pen.lineDashOffset = -look.phase * 24;
  pen.stroke(); pen.setLineDash([]);
}

// Above: at which token the edges begin on the way to the node in question.
function ruler(pen, layout, camera, look) {
  const node = layout.nodes.get(look.hovered) ?? layout.nodes.get(look.selected) ?? inTheMiddle(layout, camera);
  pen.fillStyle = look.ink.dim; pen.strokeStyle = look.ink.line; pen.lineWidth = 1;
  pen.beginPath(); pen.moveTo(0, TOP - 0.5); pen.lineTo(camera.width, TOP - 0.5); pen.stroke();
  if (!node) return;
  let free = 4;
  const path = pathTo(node.cover ?? node).filter((at) => !at.cover), last = path.at(-1);
  const ticks = path.map((at) => [at.x0, at.record.start]).concat([[last.x1, last.record.start + last.record.tokens]]);
  for (const [i, [x, token]] of ticks.entries()) {
    const px = camera.toScreen({ x0: x, x1: x, y0: 0, y1: 0 }).x, text = token.toLocaleString("en") + (i ? "" : " tokens");
    if (px < 0 || px > camera.width) continue;
    pen.beginPath(); pen.moveTo(px + 0.5, TOP - 7); pen.lineTo(px + 0.5, TOP); pen.stroke();
    const width = pen.measureText(text).width, at = Math.min(px + 4, camera.width - width - 4);
    if (at < free) continue;
    pen.fillText(text, at, TOP / 2 - 1); free = at + width + 10;
  }
}

function inTheMiddle(layout, camera) {
  const { y0, y1 } = camera.window, middle = Math.min((y0 + y1) / 2, layout.height - 1);
  let found = null;
  for (let siblings = layout.tops; siblings.length; siblings = found.shown) {
    const node = siblings[firstBelow(siblings, middle)];
    if (!node) break;
    found = node;
  }
  return found;
}
