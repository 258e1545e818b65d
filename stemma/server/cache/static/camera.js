// What part of the layout is on the screen. One zoom: rows are as high as it says, and columns as wide, but not narrower
// than lets the whole width be seen. Wherever it is moved, something of the tree stays on the screen.

import { reach } from "./layout.js";

const MOST = 4, WIDEST = 1.6, EDGE = 72, MARGIN = 12;
export const TOP = 26;                  // the ruler's height

export class Camera {
  x = 0; y = 0; zoom = 1;               // the corner of the screen in the layout, and screen pixels to a layout's pixel
  width = 800; height = 600;            // of the screen
  covered = 0;                          // how much of its bottom something else stands on
  mode = "home";                        // or "fit": both follow the tree as it grows; or "free"
  #layout; #glide = null;

  constructor(layout) { this.#layout = layout; }

  get across() { return Math.max(this.zoom, Math.min(WIDEST, (this.width - 2 * MARGIN) / this.#layout.span)); }
  get #least() { return Math.min(1, (this.height - this.covered - TOP - 2 * MARGIN) / this.#layout.height); }

  resize(width, height) { this.width = width; this.height = height; this.settle(); }

  // Another layout: follow it, or keep the anchor where it is on the screen.
  follow(layout, anchorBefore, anchorAfter) {
    this.#layout = layout;
    if (this.mode !== "free") return this.settle();
    if (anchorBefore && anchorAfter) {
      this.y += anchorAfter.y0 - anchorBefore.y0; this.x += anchorAfter.x0 - anchorBefore.x0;
      if (this.#glide) { this.#glide.y += anchorAfter.y0 - anchorBefore.y0; this.#glide.x += anchorAfter.x0 - anchorBefore.x0; }
    }
    this.settle();
  }

  toScreen(node) {
    const x = MARGIN + (node.x0 - this.x) * this.across, y = TOP + MARGIN + (node.y0 - this.y) * this.zoom;
    return { x, y, w: (node.x1 - node.x0) * this.across, h: (node.y1 - node.y0) * this.zoom };
  }
  toLayout(px, py) { return { x: this.x + (px - MARGIN) / this.across, y: this.y + (py - TOP - MARGIN) / this.zoom }; }
  get window() {
    const low = this.toLayout(0, TOP), high = this.toLayout(this.width, this.height);
    return { x0: low.x, y0: low.y, x1: high.x, y1: high.y };
  }

  // All of it, or where that could not be read, its beginning.
  settle() {
    const all = this.#least, wide = (this.width - 2 * MARGIN) / this.#layout.span;
    if (this.mode === "fit") this.#put(0, 0, all);
    else if (this.mode === "home") {
      const roomy = Math.min(1.5, (this.height - TOP - 2 * MARGIN) / this.#layout.height, wide);
      this.#put(0, 0, roomy >= 0.75 ? roomy : 1);
    } else this.#put(this.x, this.y, this.zoom);
  }
  home() { this.mode = "home"; this.#glide = null; this.settle(); }
  fit() { this.mode = "fit"; this.#glide = null; this.settle(); }

  #put(x, y, zoom) {
    this.zoom = Math.max(Math.min(0.5, this.#least), Math.min(MOST, zoom));
    const tall = (this.height - this.covered - TOP - 2 * MARGIN) / this.zoom, across = this.across;
    this.y = Math.max(0, Math.min(y, this.#layout.height - Math.min(tall, this.#layout.height)));
    const far = reach(this.#layout, this.y, this.y + tall);
    this.x = Math.max(0, Math.min(x, far - EDGE / across));
  }

  move(dx, dy) { this.mode = "free"; this.#glide = null; this.#put(this.x - dx / this.across, this.y - dy / this.zoom, this.zoom); }

  zoomAt(factor, px, py) {
    this.mode = "free"; this.#glide = null;
    const point = this.toLayout(px, py), zoom = Math.max(Math.min(0.5, this.#least), Math.min(MOST, this.zoom * factor));
    this.zoom = zoom;
    this.#put(point.x - (px - MARGIN) / this.across, point.y - (py - TOP - MARGIN) / zoom, zoom);
  }

  // The middle of what can be seen of a node: what zooming on it keeps where it is.
  middle(node) {
    const box = this.toScreen(node), between = (low, high) => Math.max(low, high) === low ? low : (low + high) / 2;
    return { x: Math.min(this.width, Math.max(0, box.x + Math.min(box.w, 24))),
      y: between(Math.max(box.y, TOP), Math.min(box.y + box.h, this.height)) };
  }

  shows(node) {
    const box = this.toScreen(node);
    return box.x > -1 && box.x + Math.min(box.w, 120) <= this.width && box.y + Math.min(box.h, 20) <= this.height - this.covered &&
      box.y + box.h >= TOP + Math.min(box.h, 20);
  }

  // Bring a node onto the screen, moving no more than is needed.
  reveal(node, glides) {
    if (this.shows(node)) return;
    const before = [this.x, this.y], tall = (this.height - this.covered - TOP - 2 * MARGIN) / this.zoom;
    const wide = (this.width - 2 * MARGIN) / this.across, own = Math.min(node.x1 - node.x0, wide * 0.8);
    let { x, y } = this;
    if (node.x0 < x || node.x0 + own > x + wide) x = node.x0 - Math.min(wide * 0.25, Math.max(0, wide - own));
    if (node.y1 - y < 20 / this.zoom || node.y0 + Math.min(node.y1 - node.y0, 20 / this.zoom) > y + tall)
      y = node.y0 - tall / 3;
    this.mode = "free";
    this.#put(x, y, this.zoom);
    if (glides) this.#glideFrom(...before);
  }

  // Zoom so that a node and what is below it can be read.
  frame(node, glides) {
    const tall = this.height - TOP - 2 * MARGIN, before = [this.x, this.y];
    this.mode = "free"; this.#glide = null;
    this.zoom = Math.max(0.75, Math.min(1.6, tall / (node.y1 - node.y0)));
    this.#put(node.x0 - 24 / this.across, node.y0, this.zoom);
    if (glides) this.#glideFrom(...before);
  }

  #glideFrom(x, y) {
    this.#glide = { x: this.x, y: this.y };
    this.x = x; this.y = y;
  }
  // One frame of a glide; whether it goes on.
  glide() {
    if (!this.#glide) return false;
    this.x += (this.#glide.x - this.x) * 0.3; this.y += (this.#glide.y - this.y) * 0.3;
    if (Math.abs(this.#glide.x - this.x) * this.across + Math.abs(this.#glide.y - this.y) * this.zoom > 1) return true;
    this.x = this.#glide.x; this.y = this.#glide.y; this.#glide = null;
    return true;
  }
}
