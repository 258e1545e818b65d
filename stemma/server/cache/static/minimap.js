// The whole tree in a corner, and the window on it. Painted anew only when the layout changes.

import { firstBelow } from "./layout.js";
import { fillOf } from "./colours.js";

export class Minimap {
  #canvas; #pen; #whole = new OffscreenCanvas(1, 1); #painted = null;

  constructor(canvas, moveTo) {
    this.#canvas = canvas; this.#pen = canvas.getContext("2d");
    const go = (event) => {
      if (!(event.buttons & 1)) return;
      const box = canvas.getBoundingClientRect();
      moveTo((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      event.preventDefault();
    };
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); go(event); });
    canvas.addEventListener("pointermove", go);
  }

  // Hidden while all of the tree is on the screen.
  draw(layout, camera, look) {
    const { x0, y0, x1, y1 } = camera.window;
    const whole = y0 <= 0 && x0 <= 0 && y1 >= layout.height && x1 >= layout.span;
    this.#canvas.hidden = whole || !layout.visible.length;
    if (this.#canvas.hidden) return;
    const ratio = devicePixelRatio, width = Math.round(this.#canvas.clientWidth * ratio);
    const height = Math.round(this.#canvas.clientHeight * ratio);
    const key = [layout, width, height, look.by, look.scheme, look.matches];
    if (!this.#painted || key.some((part, i) => part !== this.#painted[i])) { this.#paint(layout, width, height, look); this.#painted = key; }
    if (this.#canvas.width !== width || this.#canvas.height !== height) { this.#canvas.width = width; this.#canvas.height = height; }
    const pen = this.#pen, sx = width / layout.span, sy = height / layout.height;
    pen.clearRect(0, 0, width, height); pen.drawImage(this.#whole, 0, 0);
    pen.strokeStyle = look.ink.focus; pen.lineWidth = 2 * ratio; pen.fillStyle = look.ink.focus;
    const x = Math.max(0, x0 * sx), y = Math.max(0, y0 * sy);
    const w = Math.max(4, Math.min(width, x1 * sx) - x), h = Math.max(4, Math.min(height, y1 * sy) - y);
    pen.globalAlpha = 0.12; pen.fillRect(x, y, w, h); pen.globalAlpha = 1; pen.strokeRect(x, y, w, h);
  }

  #paint(layout, width, height, look) {
    this.#whole.width = Math.max(1, width); this.#whole.height = Math.max(1, height);
    const pen = this.#whole.getContext("2d"), sx = width / layout.span, sy = height / layout.height, stack = [layout.tops];
    while (stack.length) {
      const siblings = stack.pop();
      for (let i = 0; i < siblings.length;) {
        const node = siblings[i], h = (node.y1 - node.y0) * sy;
        const runs = node.record.running !== undefined, found = look.matches?.has(node.id);
        pen.globalAlpha = look.matches && !found ? 0.3 : 1;
        pen.fillStyle = found ? look.ink.match : runs ? look.ink.flow : node.isGhost ? look.ink.evicted : fillOf(node.record, look);
        const right = h >= 1 ? node.x1 * sx - 1 : node.far * sx;
        pen.fillRect(node.x0 * sx, node.y0 * sy, Math.max(1, right - node.x0 * sx), Math.max(1, h > 4 ? h - 1 : h));
        if (h >= 1) { if (node.shown.length) stack.push(node.shown); i += 1; }
        else i = Math.max(i + 1, firstBelow(siblings, node.y0 + 1 / sy, i));
      }
    }
    this.#painted = null;
  }
}
