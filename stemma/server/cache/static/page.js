// The page: what is shown, selected, folded and searched, and when it is painted.

import { Camera } from "./camera.js";
import { FONT, paint } from "./drawing.js";
import { connect } from "./feed.js";
import { History } from "./history.js";
import { listen } from "./input.js";
import { Labels } from "./labels.js";
import { foldsAt, layOut, nodeAt } from "./layout.js";
import { Minimap } from "./minimap.js";
import { $, say, showCard, showCounters, showLegend, showTip } from "./panel.js";
import { nextMatch, search } from "./search.js";
import { Timeline } from "./timeline.js";

const GLOW = 2.5, SLOW = 70;      // seconds that a change is seen; milliseconds between two pictures of what moves
const INKS = ["ink", "dim", "line", "focus", "flow", "hit", "made", "evicted", "match", "stripes"];
const dark = matchMedia("(prefers-color-scheme: dark)"), calm = matchMedia("(prefers-reduced-motion: reduce)");

class Page {
  history = new History();
  folded = new Set();
  layout = layOut([], [], this.folded);
  camera = new Camera(this.layout);
  timeline = new Timeline(this.history, () => this.refresh());
  selected = null;
  hovered = null;
  painted = { visited: 0, blocks: 0, labels: [] };    // what the last picture took
  #canvas = $("view");
  #pen = this.#canvas.getContext("2d");
  #minimap = new Minimap($("minimap"), (x, y) => this.#centre(x, y));
  #recent = new Map();
  #found = [];                    // nodes that match the query
  #query = "";
  #told = performance.now();      // when the server last said something
  #look = null;
  #frame = 0;
  #later = 0;

  constructor() {
    this.#pen.font = FONT;
    this.#look = { by: "age", labels: new Labels((text) => this.#pen.measureText(text).width), folded: this.folded,
      seconds: GLOW, ageOf: (node) => this.moment - (this.#recent.get(node.id)?.time ?? -Infinity) };
    this.rescheme();
    dark.addEventListener("change", () => this.rescheme());
    new ResizeObserver(() => this.resize()).observe(this.#canvas);
    listen(this);
  }

  // The moment that is looked at, on the server's clock.
  get moment() { return this.history.time + (this.history.held ? 0 : (performance.now() - this.#told) / 1000); }
  get chosen() { return this.layout.nodes.get(this.selected) ?? null; }

  // What is shown ------------------------------------------------------------------------------
  start() { this.history.clear(); this.refresh(); }
  take(message) {
    this.history.push(message); this.#told = performance.now();
    if (this.history.held) this.#timeline(); else this.refresh();
  }

  // Lay the tree out anew: other nodes, another moment, other folds.
  refresh() {
    clearTimeout(this.#later);
    const history = this.history, before = this.layout, anchor = this.#anchor();
    this.#recent = history.recent(GLOW, this.moment);
    const ghosts = [...this.#recent.values()].filter(({ kind }) => kind === "evicted").map(({ record }) => record);
    this.layout = layOut(history.shown.values(), ghosts, this.folded);
    this.#keepNames(before);
    const after = anchor && this.layout.nodes.get(anchor.id);
    this.camera.follow(this.layout, anchor, after && (after.cover ?? after));
    this.#search();
    if (this.#recent.size && !history.held) this.#later = setTimeout(() => this.refresh(), GLOW * 1000);
    document.body.dataset.nodes = history.shown.size;
    $("empty").hidden = history.shown.size > 0 || !history.entries.length;
    showCounters(history.counters, history.shown.size);
    this.#legend(); this.#timeline(); this.#card(); this.repaint();
  }

  // What stays where it is on the screen.
  #anchor() {
    const chosen = this.chosen;
    if (chosen && !chosen.cover && this.camera.shows(chosen)) return chosen;
    const { x0, y0, x1, y1 } = this.camera.window;
    return nodeAt(this.layout, (x0 + x1) / 2, (y0 + y1) / 2) ?? nodeAt(this.layout, x0 + 1, (y0 + y1) / 2);
  }

  // A node that grew has another id; one that ran is part of the tree now.
  #keepNames(before) {
    const lost = [...this.folded, this.selected].filter((id) => id && !this.layout.nodes.has(id));
    if (!lost.length) return;
    const grown = new Map(this.layout.all.filter(({ record }) => record.grewFrom).map((node) => [node.record.grewFrom, node.id]));
    const now = (id) => this.layout.nodes.has(id) ? id : grown.get(id) ?? null;
    for (const id of lost) {
      if (id === this.selected) {
        this.selected = null;
        for (let at = before.nodes.get(id); at && !this.selected; at = at.parent) this.selected = now(at.id);
      }
      if (!this.folded.has(id)) continue;
      if (grown.has(id)) this.folded.add(grown.get(id));
      if (!this.history.live.has(id)) this.folded.delete(id);
    }
  }

  // Folds and levels ---------------------------------------------------------------------------
  toggleFold(id) {
    const node = this.layout.nodes.get(id);
    if (!node?.kids.length) return;
    if (!this.folded.delete(id)) this.folded.add(id);
    this.refresh();
    if (this.selected === id) say(this.chosen, this.moment, this.folded.has(id));
  }
  showLevels(levels) {
    this.folded.clear();
    if (levels) for (const id of foldsAt(this.layout, levels)) this.folded.add(id);
    this.refresh();
    const chosen = this.chosen;
    if (chosen) this.camera.reveal(chosen.cover ?? chosen, false);
  }
  #unfold(node) {
    let was = false;
    for (let at = node.parent; at; at = at.parent) was = this.folded.delete(at.id) || was;
    if (was) this.refresh();
  }

  // Choosing -----------------------------------------------------------------------------------
  at(px, py) {
    const { x, y } = this.camera.toLayout(px, py);
    return nodeAt(this.layout, x, y);
  }
  select(id) {
    const node = this.layout.nodes.get(id);
    this.selected = node ? id : null;
    if (node) {
      this.#unfold(node);
      this.#card();
      this.camera.reveal(this.chosen, !calm.matches);
      say(this.chosen, this.moment, this.folded.has(id));
    }
    this.#count(); this.#card(); this.repaint();
  }
  walk(key) {
    const node = this.chosen;
    if (!node) return this.select(this.layout.tops[0]?.id);
    const row = node.parent ? node.parent.kids : this.layout.tops, place = row.indexOf(node);
    const next = { ArrowLeft: node.parent, ArrowRight: node.kids[0], ArrowUp: row[place - 1], ArrowDown: row[place + 1] }[key];
    if (next) this.select(next.id);
  }
  nextRun() {
    const { runs } = this.layout;
    if (runs.length) this.select(runs[(runs.findIndex((run) => run.id === this.selected) + 1) % runs.length].id);
  }
  hover(px, py) {
    const node = this.at(px, py);
    showTip(node, this.moment, px, py);
    if (this.hovered === (node?.id ?? null)) return;
    this.hovered = node?.id ?? null; this.repaint();
  }
  unhover() { this.hovered = null; showTip(null); this.repaint(); }
  escape() {
    if (this.#query) { $("query").value = ""; this.find(""); } else this.select(null);
  }

  // Looking for a text -------------------------------------------------------------------------
  find(query) {
    this.#query = query;
    this.#search(); this.repaint();
  }
  #search() {
    this.#found = search(this.layout.all, this.#query);
    this.#look.matches = this.#query.trim() ? new Set(this.#found.map((node) => node.id)) : null;
    this.#count();
  }
  #count() {
    const place = this.#found.findIndex((node) => node.id === this.selected), count = this.#found.length.toLocaleString("en");
    $("found").textContent = !this.#look.matches ? "" : place < 0 ? `${count} found` : `${place + 1} of ${count}`;
  }
  nextMatch(step) {
    const node = nextMatch(this.#found, this.chosen, step);
    if (node) this.select(node.id);
  }

  // Moving -------------------------------------------------------------------------------------
  move(dx, dy) { this.camera.move(dx, dy); this.repaint(); }
  zoomAt(factor, px, py) { this.camera.zoomAt(factor, px, py); this.repaint(); }
  fit() { this.camera.fit(); this.repaint(); }
  home() { this.camera.home(); this.repaint(); }

  // About what is selected, else about the middle.
  zoom(factor) {
    const camera = this.camera, chosen = this.chosen, node = chosen?.cover ?? chosen;
    if (!node) return this.zoomAt(factor, camera.width / 2, camera.height / 2);
    camera.reveal(node, false);
    const { x, y } = camera.middle(node);
    camera.zoomAt(factor, x, y);
    camera.reveal(node, false);
    this.repaint();
  }
  frame() {
    const chosen = this.chosen;
    if (chosen) this.camera.frame(chosen.cover ?? chosen, !calm.matches);
    this.repaint();
  }
  #centre(x, y) {
    const { camera, layout } = this, { x0, y0, x1, y1 } = camera.window;
    this.move(((x0 + x1) / 2 - x * layout.span) * camera.across, ((y0 + y1) / 2 - y * layout.height) * camera.zoom);
  }

  // Painting -----------------------------------------------------------------------------------
  rescheme() {
    const style = getComputedStyle(document.documentElement);
    this.#look.scheme = dark.matches ? "dark" : "light";
    this.#look.ink = Object.fromEntries(INKS.map((name) => [name, style.getPropertyValue("--" + name).trim()]));
    this.#legend(); this.timeline.draw(this.#look.ink); this.repaint();
  }
  recolour() { this.#look.by = $("colour").value; this.#legend(); this.repaint(); }
  resize() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    this.camera.resize(width, height);
    this.timeline.draw(this.#look.ink);
    this.paint();
  }
  repaint() { if (!this.#frame) this.#frame = requestAnimationFrame(() => { this.#frame = 0; this.paint(); }); }

  paint() {
    const glides = this.camera.glide(), { width, height } = this.camera, ratio = devicePixelRatio, canvas = this.#canvas;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    }
    Object.assign(this.#look, { now: this.moment, tenants: this.layout.tenants, recent: this.#recent, width, height,
      selected: this.selected, hovered: this.hovered, phase: calm.matches ? 0 : performance.now() / 1000 });
    this.#pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.painted = paint(this.#pen, this.layout, this.camera, this.#look);
    this.#minimap.draw(this.layout, this.camera, this.#look);
    if (glides) this.repaint();
    else if (!calm.matches && (this.layout.runs.length || (this.#recent.size && !this.history.held)))
      setTimeout(() => this.repaint(), SLOW);
  }

  #timeline() { this.timeline.show(); this.timeline.draw(this.#look.ink); this.#state(); }
  #state() {
    const state = $("state");
    if (!["live", "paused"].includes(state.textContent)) return;
    state.textContent = this.history.held ? "paused" : "live";
    state.className = this.history.held ? "past" : "live";
  }
  #legend() { showLegend({ ...this.#look, tenants: this.layout.tenants, hasMarks: this.history.counters.marks !== undefined }); }
  #card() {
    const node = this.chosen, isFolded = this.folded.has(this.selected);
    const acts = [["zoom on it", () => this.frame()]];
    if (node?.kids.length) acts.unshift([isFolded ? "unfold" : "fold", () => this.toggleFold(node.id)]);
    if (node?.parent) acts.push(["parent", () => this.select(node.parent.id)]);
    showCard(node, this.moment, isFolded, acts, () => this.select(null));
    const { offsetWidth: wide, offsetHeight: high } = $("card");
    this.camera.covered = wide > this.camera.width * 0.8 ? high : 0;
  }
}

// The connection, told in words.
function talk(page) {
  const status = (text) => { $("state").textContent = text; $("state").className = text; };
  const told = {
    start: () => { $("login").hidden = true; status("live"); page.start(); },
    message: (value) => page.take(value),
    locked: () => { $("login").hidden = false; $("key").focus(); status("locked"); },
    away: () => status("the server is away; trying again"),
  };
  $("login").onsubmit = (event) => {
    event.preventDefault();
    sessionStorage.setItem("stemma-key", $("key").value);
    connect($("key").value, told);
  };
  connect(sessionStorage.getItem("stemma-key"), told);
}

const page = globalThis.stemma = new Page();      // a handle for the console and for tests
talk(page);
