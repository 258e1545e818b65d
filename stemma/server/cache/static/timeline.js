// The last minutes under the tree: hits upwards, evictions downwards, and a slider for the moment that is shown.

import { $ } from "./panel.js";

const FASTER = 8, STEP = 100;

export class Timeline {
  #history; #moved; #playing = null; #at = 0;

  // moved: called after the history was sent to another moment.
  constructor(history, moved) {
    this.#history = history; this.#moved = moved;
    $("when").oninput = () => { this.stop(); this.#go(history.first + Number($("when").value)); };
    $("play").onclick = () => this.toggle();
    $("pause").onclick = () => { this.stop(); history.held ? this.live() : this.hold(); };
  }

  hold() { this.#history.hold(); this.#moved(); }
  live() { this.stop(); this.#history.goLive(); this.#moved(); }

  // One entry back or on.
  step(by) {
    this.stop();
    const index = this.#history.cursor + by;
    if (index >= this.#history.entries.length) return this.live();
    this.#history.hold(); this.#history.seek(index); this.#moved();
  }

  toggle() {
    if (this.#playing) return this.stop();
    const history = this.#history;
    this.#at = !history.held || history.time >= history.last ? history.first : history.time;
    this.#playing = setInterval(() => {
      this.#at += FASTER * STEP / 1000;
      if (this.#at >= history.last) this.live(); else this.#go(this.#at);
    }, STEP);
    this.#go(this.#at);
  }
  stop() { clearInterval(this.#playing); this.#playing = null; this.show(); }

  #go(time) {
    const history = this.#history;
    if (time >= history.last) return this.live();
    history.hold(); history.seek(history.indexAt(time)); this.#moved();
  }

  show() {
    const history = this.#history, { held } = history, length = history.last - history.first, slider = $("when");
    slider.max = Math.ceil(length * 2) / 2;
    if (document.activeElement !== slider || !held) slider.value = held ? history.time - history.first : slider.max;
    const ago = Math.round(history.last - history.time), text = held ? `${clock(ago)} ago` : "now";
    $("ago").textContent = text; slider.setAttribute("aria-valuetext", text);
    $("pause").textContent = held ? "live" : "pause"; $("pause").setAttribute("aria-pressed", String(held));
    $("play").firstChild.textContent = this.#playing ? "■" : "▶";
  }

  draw(ink) {
    const canvas = $("spark"), ratio = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d"), parts = this.#history.parts(Math.max(8, Math.floor(width / 5)));
    const most = Math.log1p(Math.max(4, ...parts.map((part) => Math.max(part.hits + part.made, part.evicted))));
    const tall = (count) => Math.log1p(count) / most * (height / 2 - 3), middle = height / 2, step = width / parts.length;
    pen.scale(ratio, ratio); pen.fillStyle = ink.line; pen.fillRect(0, middle - 0.5, width, 1);
    for (const [i, { hits, evicted, made }] of parts.entries()) {
      const all = tall(hits + made), share = hits + made ? hits / (hits + made) : 0, x = i * step;
      pen.fillStyle = ink.made; pen.fillRect(x, middle - all, step - 1, all * (1 - share));
      pen.fillStyle = ink.hit; pen.fillRect(x, middle - all * share, step - 1, all * share);
      pen.fillStyle = ink.evicted; pen.fillRect(x, middle, step - 1, tall(evicted));
    }
  }
}

const clock = (seconds) => seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
