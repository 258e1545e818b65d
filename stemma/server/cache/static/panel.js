// What stands around the canvas: counters, the legend, the card of the selected node, and what is read aloud.

import { FIGURES, legendOf } from "./colours.js";

export const $ = (id) => document.getElementById(id);

export function made(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  element.append(text);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function swatch(fill) {
  const mark = made("i", "", { class: "swatch" });
  mark.style.background = fill;
  return mark;
}

export function showCounters(counters, numNodes) {
  if (counters.blocks_total === undefined) return;
  const percent = Math.round(100 * (counters.blocks_total - counters.blocks_free) / counters.blocks_total);
  const used = (total, free) => total ? Math.round(100 * (total - free) / total) + " %" : undefined;
  const shown = { cached: counters.cached, replayed: counters.replayed || undefined, prefilled: counters.prefilled,
    decoded: counters.decoded, jumped: counters.jumped, running: counters.running, waiting: counters.waiting,
    nodes: numNodes, "pool in use": percent + " %", "blocks evicted": counters.evicted_blocks, marks: counters.marks,
    "slots in use": used(counters.slots_total, counters.slots_free),
    "window blocks in use": used(counters.window_blocks_total, counters.window_blocks_free) };
  $("counters").replaceChildren(...Object.entries(shown).filter(([, value]) => value !== undefined).map(([name, value]) => {
    const box = document.createElement("div");
    if (FIGURES[name]) box.append(swatch(FIGURES[name]));
    box.append(made("dt", name), made("dd", typeof value === "number" ? value.toLocaleString("en") : value));
    return box;
  }));
}

export function showLegend(look) {
  const ink = look.ink, striped = `repeating-linear-gradient(45deg, ${ink.flow} 0 2px, #0000 2px 5px)`;
  const tick = `linear-gradient(90deg, #0000 40%, ${ink.focus} 40% 60%, #0000 60%)`;
  const items = [...legendOf(look), [striped, "running"], [ink.hit, "hit"], [ink.made, "new"], [ink.evicted, "evicted"]];
  if (look.hasMarks) items.push([tick, "mark: one can go on here"]);
  $("legend").replaceChildren(...items.map(([fill, text]) => {
    const item = made("span", swatch(fill));
    item.append(text);
    return item;
  }));
}

const count = (number, what) => `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;

// Where one can go on in an edge; only a model with windows or states has such places.
function placesOf(record) {
  if (!record.marks?.length) return "";
  const shown = record.marks.slice(0, 6).map((place) => place.toLocaleString("en")).join(", ");
  return ` · ${count(record.marks.length, "mark")} at ${shown}${record.marks.length > 6 ? ", ..." : ""}`;
}

export function describe(node, now) {
  const { record } = node;
  if (record.running !== undefined)
    return `running: ${count(record.running, "token")} generated, ${record.tokens.toLocaleString("en")} not yet in the tree`;
  const below = node.size > 1 ? ` · ${count(node.size - 1, "node")} below` : "";
  return `${node.isGhost ? "evicted: " : ""}${count(record.tokens, "token")} in ${count(record.blocks, "block")} · ` +
    `${count(record.hits, "hit")} · ${count(record.references, "reference")} · ` +
    `used ${Math.max(0, Math.round(now - record.used))} s ago${placesOf(record)}${below}`;
}

export function showTip(node, now, px, py) {
  const tip = $("tip");
  tip.hidden = !node;
  if (!node) return;
  tip.replaceChildren(describe(node, now), made("pre", node.record.text));
  const room = tip.parentElement;
  tip.style.left = Math.max(4, Math.min(px + 16, room.clientWidth - tip.offsetWidth - 6)) + "px";
  tip.style.top = Math.max(4, py + 18 + tip.offsetHeight > room.clientHeight ? py - tip.offsetHeight - 10 : py + 18) + "px";
}

// acts: [text, what it does], for the selected node.
export function showCard(node, now, isFolded, acts, close) {
  const card = $("card");
  card.hidden = !node;
  if (!node) return;
  const key = JSON.stringify([node.record, node.size, isFolded, Math.round(now - (node.record.used ?? now))]);
  if (card.dataset.key === key) return;
  card.dataset.key = key;
  const { record } = node, where = `tokens ${record.start.toLocaleString("en")} to ${(record.start + record.tokens).toLocaleString("en")}`;
  const buttons = made("div", "", { class: "actions" });
  for (const [text, act] of acts) {
    const button = made("button", text);
    button.onclick = act;
    buttons.append(button);
  }
  const away = made("button", "✕", { class: "close", "aria-label": "close" });
  away.onclick = close;
  card.replaceChildren(made("p", describe(node, now)), made("p", where + (record.namespace ? ` · tenant ${record.namespace}` : "")),
    made("pre", record.text), buttons, away);
}

export function say(node, now, isFolded) {
  $("said").textContent = `${describe(node, now)}${isFolded ? ", folded" : ""}. ${node.record.text.slice(0, 80)}`;
}
