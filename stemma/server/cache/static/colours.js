// Colours, told apart with any colour vision: scales of lightness for ages and references, Okabe and Ito's for tenants.

const SCALES = {
  light: ["#e3e8e6", "#d3e0dc", "#bdd6d1", "#a2cac6", "#83bbbb", "#62a9ae", "#43949f", "#2b7d8f", "#1a667d", "#0e5069"],
  dark: ["#262d33", "#233943", "#214754", "#1f5663", "#226670", "#2f7879", "#468b84", "#659f90", "#8bb5a0", "#b7ccb4"],
};
export const TENANTS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999933", "#888888"];
export const FIGURES = { cached: "#009e73", replayed: "#f0e442", prefilled: "#e69f00", decoded: "#0072b2", jumped: "#cc79a7" };

// What a node is filled with. scheme: "light" or "dark"; by: "age", "references" or "tenant".
export function fillOf(record, { by, scheme, now, tenants }) {
  if (by === "tenant") return TENANTS[tenants.indexOf(record.namespace) % TENANTS.length];
  const share = by === "age" ? 1 - Math.log1p(Math.max(0, now - (record.used ?? now))) / Math.log1p(3600)
    : Math.log1p(record.references ?? 1) / Math.log1p(8);
  return SCALES[scheme][Math.max(0, Math.min(9, Math.round(share * 9)))];
}

export function inkOn(fill) {
  const part = (at) => (parseInt(fill.slice(at, at + 2), 16) / 255) ** 2.2;
  return 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5) > 0.2 ? "#10171a" : "#ffffff";
}

export function legendOf({ by, scheme, tenants }) {
  const scale = SCALES[scheme];
  if (by === "age") return [[scale[9], "just used"], [scale[4], "a minute ago"], [scale[0], "an hour or more"]];
  if (by === "references") return [[scale[0], "held by nobody"], [scale[3], "one"], [scale[9], "many"]];
  return tenants.slice(0, 8).map((name, i) => [TENANTS[i], name || "everybody"]);
}
