// The data, what is chosen, and small tools that every part uses. Text from the data is set as text, never as HTML.
const data = JSON.parse(document.getElementById("data").textContent);
const state = { kind: 0, variant: "", protect: false, threshold: 0, image: 0 };
const followers = []; // functions that redraw a part when a choice changes

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function fill(element, ...children) {
  element.replaceChildren(...children);
  return element;
}

const variants = [...new Set(data.settings.map((setting) => setting.name))];
const hasTwin = (variant, protect) => data.settings.some((s) => s.name === variant && s.protect === protect);

function thresholdsOf(variant, protect) {
  return data.settings
    .map((setting, index) => ({ ...setting, index }))
    .filter((setting) => setting.name === variant && setting.protect === protect)
    .sort((a, b) => a.threshold - b.threshold);
}

const steps = () => thresholdsOf(state.variant, state.protect);
const step = () => Math.max(0, steps().findIndex((setting) => setting.threshold === state.threshold));
const current = () => steps()[step()].index;
const group = () => data.groups[state.kind];
const nameOf = (variant, protect) => (protect ? `${variant}, protected` : variant);
const kindName = (index) => (index === 0 ? "All kinds" : data.groups[index].name);

const plain = new Intl.NumberFormat("en");
const number = (value) => plain.format(value);
const short = (value) => new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 }).format(value);
function percent(value, digits = 1) {
  // Rounding must not claim that all or nothing was kept.
  if (value > 0 && value < 0.5 * 10 ** (-digits - 2)) return `<${10 ** -digits} %`;
  if (value < 1 && value >= 1 - 0.5 * 10 ** (-digits - 2)) return `>${(100 - 10 ** -digits).toFixed(digits)} %`;
  return `${(100 * value).toFixed(digits)} %`;
}
const UNITS = ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP"];
// The power of 1000 that a value is written with; 999.9 T is rounded to 1.00 P.
const powerOf = (value) => (value > 0 ? Math.max(0, Math.min(Math.floor(Math.log10(Number(value.toPrecision(3))) / 3), UNITS.length - 1)) : 0);
const flops = (value) => `${(value / 1000 ** powerOf(value)).toPrecision(3)} ${UNITS[powerOf(value)]}`;
const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

function choose(change) {
  Object.assign(state, change);
  const known = steps();
  if (!known.some((setting) => setting.threshold === state.threshold)) {
    // The nearest threshold that the sweep has for this method.
    const apart = (setting) => Math.abs(setting.threshold - state.threshold);
    state.threshold = known.reduce((best, setting) => (apart(setting) < apart(best) ? setting : best)).threshold;
  }
  for (const follow of followers) follow();
}

function table(head, rows) {
  const cells = (row, tag) => row.map((cell, column) => {
    const { text, ...attributes } = cell !== null && typeof cell === "object" && !(cell instanceof Node) ? cell : { text: cell };
    attributes["data-label"] = head[column].text;
    if (head[column].number) attributes.class = `number ${attributes.class ?? ""}`.trim();
    const first = tag === "td" && column === 0;
    return make(first ? "th" : tag, { ...(tag === "th" ? { scope: "col" } : first ? { scope: "row" } : {}), ...attributes }, text ?? "");
  });
  return make("table", {},
    make("thead", {}, make("tr", {}, ...cells(head.map((column) => column.text), "th"))),
    make("tbody", {}, ...rows.map(({ cells: row, now }) => make("tr", now ? { class: "now", "aria-current": "true" } : {}, ...cells(row, "td")))));
}
