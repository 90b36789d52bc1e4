/* The curves of a run as SVG; the same geometry as training/web/charts.py, which draws them without JavaScript. */
import { element, show } from "./build.js";

const [WIDTH, HEIGHT, RIGHT, TOP, BOTTOM] = [320, 170, 8, 10, 24];
const SERIES = 6;
const [MANY, TICKS] = [100, 3];
const [LEAST, CHARACTER, BESIDE] = [6, 6.4, 8];
const MOST_OTHERS = 4;
const MOST_LINES = 6;
const MOST_ROWS = 40;
const WORTH_SAYING = 1.05;
const MOST_FURTHER = 60;
const ALONE = ["drift", "staleness", "seconds", "bytes"]; // of the run and not of any organization
const WHOLE = ["gap:accuracy", "gap:loss", ...ALONE]; // with one line
const ASKED = ["sensitivity", "specificity"];
const GREATER = ["sensitivity", "specificity", "balanced_accuracy"];
const MEASURES = ["accuracy", "auc", "loss"];
const OWN = "Devices’ own models"; // of all organizations together
const NS = "http://www.w3.org/2000/svg";
const drawn = new Map(); // chart → what its slider and its table read

export function shown(name, value) {
  if (name === "bytes") {
    let unit = 0;
    while (value >= 1000 && unit < 3) { value /= 1000; unit += 1; }
    return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${["B", "KB", "MB", "GB"][unit]}`;
  }
  if (name === "seconds") return value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(0)} s`;
  if (name === "drift") return `${(100 * value).toFixed(2)} %`;
  return short(value);
}

/* A few characters; three decimals where they say enough. */
function short(value) {
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 5e-4)) return value.toExponential(2).replace("e+", "e");
  return value.toFixed(size < 100 ? 3 : size < 1000 ? 1 : 0);
}

function amount(name, row) {
  if (name.startsWith("gap:")) return row?.gaps?.[name.slice(4)] ?? null;
  if (name.startsWith("other:")) return row?.others?.[name.slice(6)] ?? null;
  if (name !== "bytes") return row?.[name] ?? null;
  return row?.bytes_up == null && row?.bytes_down == null ? null : (row.bytes_up ?? 0) + (row.bytes_down ?? 0);
}

function values(name, curves, organization) {
  return curves
    .map((point) => [point.number, amount(name, organization ? point.organizations[organization] : point)])
    .filter(([, value]) => value !== null && Number.isFinite(value));
}

/* What devices' own models do. */
function own(name, curves) {
  if (!MEASURES.includes(name)) return [];
  return curves.map((point) => [point.number, point.personal?.[name] ?? null])
    .filter(([, value]) => value !== null && Number.isFinite(value));
}

function bounds(name, every) {
  let low = Math.min(...every);
  let high = Math.max(...every);
  if (["seconds", "bytes", "loss", "drift", "staleness", "gap:accuracy", "gap:loss"].includes(name)) low = 0;
  if (high - low < 1e-9) {
    const spare = Math.max(Math.abs(high) * 0.1, 1e-3);
    high += spare;
    if (low) low -= spare;
  }
  if (["accuracy", "auc"].includes(name)) {
    low = Math.max(Math.min(low, 1 - 1e-3), 0);
    high = Math.min(high, 1);
  }
  return [low, high];
}

/* The axis of a loss is logarithmic, between powers of ten, when the largest is more than MANY times the smallest. */
function axis(name, every) {
  const [least, most] = [Math.min(...every), Math.max(...every)];
  if (name !== "loss" || least <= 0 || most / least <= MANY) {
    const [low, high] = bounds(name, every);
    return { place: (value) => (value - low) / (high - low), ticks: [low, (low + high) / 2, high], logarithmic: false };
  }
  const [first, last] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  const ticks = [];
  for (let power = first; power <= last; power += Math.ceil((last - first) / TICKS)) ticks.push(10 ** power);
  return { place: (value) => (Math.log10(value) - first) / (last - first), ticks, logarithmic: true };
}

function lowerIsBetter(name) {
  if (["accuracy", "auc"].includes(name) || GREATER.includes(name.replace(/^other:/, "")) || name.startsWith("other:auc_")) return false;
  return ["loss", "loss_change"].includes(name) || name.includes("error") ? true : null;
}

/* Organization, its name and its colour, by name; the colour goes by its place in `names`, which does not change. */
function coloured(names) {
  const rows = Object.entries(names).map(([key, label], index) => [key, label, `series-${(index % SERIES) + 1}`]);
  const lower = (row) => row[1].toLowerCase();
  return rows.sort((one, other) => (lower(one) < lower(other) ? -1 : lower(one) > lower(other) ? 1 : 0));
}

/* The lines to draw, the whole first, and who does worst at the newest point. */
function chosen(name, curves, names) {
  const whole = ["all", "All organizations", values(name, curves)];
  if (name === "staleness") {
    const lines = [["all", "Mean", whole[2]], ["series-1", "Most", values("staleness_most", curves)]];
    return [lines.filter(([, , points]) => points.length), ""];
  }
  if (WHOLE.includes(name)) return [[whole].filter(([, , points]) => points.length), ""];
  const each = coloured(names)
    .map(([key, label, kind]) => [kind, label, values(name, curves, key)])
    .filter(([, , points]) => points.length);
  const less = lowerIsBetter(name);
  const newest = ([, , points]) => points.at(-1)[1];
  const ranked = each.toSorted((one, other) => (less ? newest(other) - newest(one) : newest(one) - newest(other)));
  const last = Math.max(...each.map(([, , points]) => points.at(-1)[0]));
  const there = ranked.filter(([, , points]) => points.at(-1)[0] === last); // values of different rounds do not compare
  const apart = there.length > 1 && shown(name, newest(there[0])) !== shown(name, newest(there.at(-1)));
  const worst = less !== null && apart
    ? `${less ? "highest" : "lowest"}: ${there[0][1]} ${shown(name, newest(there[0]))}` : "";
  const few = new Set(ranked.slice(0, MOST_LINES).map(([, label]) => label));
  const beside = ["personal", OWN, own(name, curves)];
  return [[whole, beside, ...each.filter(([, label]) => few.has(label))].filter(([, , points]) => points.length), worst];
}

function svg(tag, attributes, text) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/* A value that not all organizations measured is over the rows of fewer, and does not compare. */
function byFewer(name, curves, number) {
  if (ALONE.includes(name)) return "";
  const count = (point) => Object.keys(point.organizations).length;
  const most = Math.max(...curves.map(count));
  const have = count(curves.find((point) => point.number === number));
  return have < most ? `, by ${have} of ${most} organizations` : "";
}

/* The bytes of a round whose updates were compressed, as measured at the door. */
function smaller(curves, number) {
  const ratio = curves.find((point) => point.number === number)?.ratio;
  return ratio >= WORTH_SAYING ? `, updates ${ratio.toFixed(1)} times smaller than float32` : "";
}

/* Where devices' own models were measured at the same round. */
function besides(name, there, number) {
  const found = there.find(([kind]) => kind === "personal")?.[2].find(([round]) => round === number);
  return found ? `; own models ${shown(name, found[1])}` : "";
}

function drawOne(figure, curves, names) {
  const name = figure.dataset.chart;
  const [there, worst] = chosen(name, curves, names);
  if (!there.length) return;
  figure.classList.remove("blank");
  figure.hidden = false;
  const scale = axis(name, there.flatMap(([, , points]) => points.map(([, value]) => value)));
  const labels = scale.ticks.map((value) => [value, shown(name, value)]);
  const left = BESIDE + Math.ceil(CHARACTER * Math.max(LEAST, ...labels.map(([, label]) => label.length)));
  const first = curves[0].number;
  const last = Math.max(curves.at(-1).number, first + 1);
  const x = (number) => (left + ((number - first) / (last - first)) * (WIDTH - left - RIGHT)).toFixed(1);
  const y = (value) => (HEIGHT - BOTTOM - scale.place(value) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
  const parts = [];
  for (const [value, label] of labels) {
    parts.push(svg("line", { class: "grid-line", x1: left, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    parts.push(svg("text", { x: left - 6, y: y(value), dy: 4, "text-anchor": "end" }, label));
  }
  parts.push(svg("text", { x: (left + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "Round"));
  parts.push(svg("text", { x: left, y: HEIGHT - 6, "text-anchor": "start" }, first));
  parts.push(svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, last));
  for (const [kind, label, points] of there.toReversed()) {
    const line = svg("polyline", { class: `line ${kind}`, points: points.map(([number, value]) => `${x(number)},${y(value)}`).join(" ") });
    line.append(svg("title", {}, label));
    const [number, value] = points.at(-1);
    parts.push(line, svg("circle", { class: `end ${kind}`, cx: x(number), cy: y(value), r: 2.5 }));
  }
  const [number, newest] = there[0][2].at(-1);
  const remark = name === "bytes" ? smaller(curves, number) : byFewer(name, curves, number);
  const summary = `${shown(name, newest)} at round ${number}${remark}${besides(name, there, number)}${scale.logarithmic ? "; the axis is logarithmic" : ""}`;
  const title = figure.querySelector("strong").textContent;
  figure.querySelector("[data-summary]").textContent = summary;
  show(figure.querySelector("[data-worst]"), worst);
  const picture = figure.querySelector("svg");
  picture.setAttribute("aria-label", `${title}: ${summary}`);
  picture.replaceChildren(...parts);
  const before = drawn.get(name);
  drawn.set(name, { there, x, at: before?.at ?? null, numbers: there[0][2].map(([round]) => round) });
  prepare(figure, !before);
  read(figure);
  tabulate(figure);
}

/* --- reading a value: a slider for keys and fingers, the picture for the mouse --- */

function prepare(figure, isNew) {
  const slider = figure.querySelector("[data-reader]");
  const last = drawn.get(figure.dataset.chart).numbers.length - 1;
  const wasLast = slider.value === slider.max;
  slider.max = last;
  if (wasLast) slider.value = last;
  figure.querySelector("[data-reader-box]").hidden = last < 1;
  if (!isNew) return;
  slider.addEventListener("input", () => choose(figure, Number(slider.value)));
  slider.addEventListener("focus", () => choose(figure, Number(slider.value)));
  figure.querySelector("svg").addEventListener("pointermove", (event) => {
    const { numbers, x } = drawn.get(figure.dataset.chart);
    const box = event.currentTarget.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width) * WIDTH;
    let nearest = 0;
    numbers.forEach((round, index) => { if (Math.abs(x(round) - place) < Math.abs(x(numbers[nearest]) - place)) nearest = index; });
    slider.value = nearest;
    choose(figure, nearest);
  });
  figure.querySelector("details").addEventListener("toggle", () => tabulate(figure));
}

function choose(figure, index) {
  const held = drawn.get(figure.dataset.chart);
  held.at = held.numbers[index];
  read(figure);
}

function read(figure) {
  const name = figure.dataset.chart;
  const { there, x, at } = drawn.get(name);
  const reading = figure.querySelector("[data-reading]");
  figure.querySelector(".guide")?.remove();
  if (at === null) return show(reading, "");
  const said = there.map(([kind, label, points]) => {
    const found = points.find(([round]) => round === at);
    return found && `${kind === "all" && name !== "staleness" ? "all" : label} ${shown(name, found[1])}`;
  }).filter(Boolean);
  const text = `Round ${at}: ${said.join(", ")}`;
  show(reading, text);
  figure.querySelector("[data-reader]").setAttribute("aria-valuetext", text);
  figure.querySelector("svg").append(svg("line", { class: "guide", x1: x(at), x2: x(at), y1: TOP, y2: HEIGHT - BOTTOM }));
}

/* --- the same as a table, made only while somebody looks at it --- */

function tabulate(figure) {
  const details = figure.querySelector("details");
  const name = figure.dataset.chart;
  details.hidden = false;
  if (!details.open) return;
  const { there, numbers } = drawn.get(name);
  const step = Math.max(1, Math.ceil(numbers.length / MOST_ROWS));
  const head = element("tr");
  for (const label of ["Round", ...there.map(([, label]) => label)]) {
    const made = element("th", "number", label);
    made.scope = "col";
    head.append(made);
  }
  const lookup = there.map(([, , points]) => new Map(points));
  const rows = numbers.toReversed().filter((_, index) => index % step === 0).map((round) => {
    const row = element("tr");
    row.append(element("td", "number", round));
    for (const points of lookup) row.append(element("td", "number", points.has(round) ? shown(name, points.get(round)) : "–"));
    return row;
  });
  details.querySelector("thead").replaceChildren(head);
  details.querySelector("tbody").replaceChildren(...rows);
}

/* --- further metrics: devices choose their names, and a person which of them to see --- */

function titled(name) {
  const words = name.replaceAll("_", " ");
  return words.startsWith("auc ") ? `AUC ${words.slice(4)}` : words[0].toUpperCase() + words.slice(1);
}

function addChart(root, name) {
  const figure = root.querySelector('[data-chart="loss"]').cloneNode(true);
  figure.dataset.chart = `other:${name}`;
  figure.classList.add("blank");
  figure.querySelector("strong").textContent = titled(name);
  figure.querySelector("[data-summary]").textContent = "Nothing measured yet.";
  figure.querySelector("[data-reader]").setAttribute("aria-label", `${titled(name)}: choose a round`);
  figure.querySelector(".table").setAttribute("aria-label", `${titled(name)} as a table`);
  show(figure.querySelector("[data-reading]"), "");
  root.querySelector('[data-chart="gap:accuracy"]').before(figure);
  return figure;
}

function offer(root, name) {
  const list = root.querySelector("[data-further]");
  const box = element("input");
  Object.assign(box, { type: "checkbox", name: "metric", value: name });
  box.checked = !ASKED.includes(name) && list.querySelectorAll(":checked").length < MOST_OTHERS;
  const [label, item] = [element("label"), element("li")];
  label.append(box, ` ${titled(name)}`);
  item.append(label);
  list.append(item);
  return box.checked;
}

/* Metrics of which nobody knew when the page was made can be chosen from now on. */
function offerNew(root, curves) {
  const list = root.querySelector("[data-further]");
  const there = new Set([...list.querySelectorAll("input")].map((box) => box.value));
  const names = new Set(curves.flatMap((point) => Object.keys(point.others ?? {})));
  for (const name of [...names].sort().filter((one) => !there.has(one))) {
    if (list.children.length >= MOST_FURTHER) return;
    if (offer(root, name)) addChart(root, name);
  }
  root.querySelector("[data-further-box]").hidden = !list.children.length;
}

/* Choosing draws at once; the button is for pages without this. */
export function listenToChoices(root, latest) {
  const form = root.querySelector("[data-further-box]");
  form.querySelector("button").hidden = true;
  form.addEventListener("change", ({ target }) => {
    const name = `other:${target.value}`;
    const there = root.querySelector(`[data-chart="${CSS.escape(name)}"]`);
    if (target.checked && !there) drawOne(addChart(root, target.value), ...latest());
    if (!target.checked && there) { there.remove(); drawn.delete(name); }
  });
}

/* That there will be something to see is said before there is. */
function expectStaleness(figure) {
  if (!figure.hidden) return;
  figure.hidden = false;
  figure.querySelector("[data-summary]").textContent = "No answer has been counted yet.";
}

/* Which line stands for whom: those that measured something, by name. */
function drawLegend(list, curves, names) {
  const there = new Set(curves.flatMap((point) => Object.keys(point.organizations)));
  const personal = curves.some((point) => point.personal) ? [["", OWN, "personal"]] : [];
  const rows = [["", "All organizations", "all"], ...personal, ...coloured(names).filter(([key]) => there.has(key))];
  list.replaceChildren(...rows.map(([, label, kind]) => {
    const picture = svg("svg", { viewBox: "0 0 16 6", "aria-hidden": "true" });
    picture.append(svg("line", { class: kind, x1: 0, x2: 16, y1: 3, y2: 3 }));
    const item = element("li");
    item.append(picture, label);
    return item;
  }));
}

export function drawCharts(root, curves, names, asynchronous) {
  if (asynchronous) expectStaleness(root.querySelector('[data-chart="staleness"]'));
  if (!curves.length) return;
  drawLegend(root.querySelector("[data-legend]"), curves, names);
  offerNew(root, curves.slice(-2)); // the newest model may not have been measured yet
  for (const figure of root.querySelectorAll("[data-chart]")) drawOne(figure, curves, names);
}
