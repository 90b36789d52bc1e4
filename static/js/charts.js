/* The curves of a run as SVG; the same geometry as training/web/charts.py, which draws them without JavaScript. */
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [320, 170, 46, 8, 10, 24];
const SERIES = 6;
const NS = "http://www.w3.org/2000/svg";

export function shown(name, value) {
  if (name === "bytes") {
    let unit = 0;
    while (value >= 1000 && unit < 3) { value /= 1000; unit += 1; }
    return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${["B", "KB", "MB", "GB"][unit]}`;
  }
  if (name === "seconds") return value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(0)} s`;
  return value.toFixed(3);
}

function amount(name, row) {
  if (name !== "bytes") return row?.[name] ?? null;
  return row?.bytes_up == null && row?.bytes_down == null ? null : (row.bytes_up ?? 0) + (row.bytes_down ?? 0);
}

function values(name, curves, organization) {
  return curves
    .map((point) => [point.number, amount(name, organization ? point.organizations[organization] : point)])
    .filter(([, value]) => value !== null && Number.isFinite(value));
}

function bounds(name, every) {
  let low = Math.min(...every);
  let high = Math.max(...every);
  if (["seconds", "bytes", "loss"].includes(name)) low = 0;
  if (high - low < 1e-9) {
    const spare = Math.max(Math.abs(high) * 0.1, 1e-3);
    high += spare;
    if (low) low -= spare;
  }
  if (["accuracy", "auc"].includes(name)) {
    low = Math.max(low, 0);
    if (high > 1) high = Math.max(1, low + 1e-3);
  }
  return [low, high];
}

function svg(tag, attributes, text) {
  const made = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawOne(figure, curves, names) {
  const name = figure.dataset.chart;
  const series = [["all", "All organizations", values(name, curves)]];
  if (!["seconds", "bytes"].includes(name)) {
    Object.entries(names).forEach(([key, label], index) => series.push([`series-${(index % SERIES) + 1}`, label, values(name, curves, key)]));
  }
  const there = series.filter(([, , points]) => points.length);
  if (!there.length) return;
  const [low, high] = bounds(name, there.flatMap(([, , points]) => points.map(([, value]) => value)));
  const first = curves[0].number;
  const last = Math.max(curves.at(-1).number, first + 1);
  const x = (number) => (LEFT + ((number - first) / (last - first)) * (WIDTH - LEFT - RIGHT)).toFixed(1);
  const y = (value) => (HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - BOTTOM - TOP)).toFixed(1);
  const parts = [];
  for (const value of [low, (low + high) / 2, high]) {
    parts.push(svg("line", { class: "grid-line", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    parts.push(svg("text", { x: LEFT - 6, y: y(value), dy: 4, "text-anchor": "end" }, shown(name, value)));
  }
  parts.push(svg("text", { x: LEFT, y: HEIGHT - 6, "text-anchor": "start" }, first));
  parts.push(svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, last));
  for (const [kind, label, points] of there.reverse()) {
    const line = svg("polyline", { class: `line ${kind}`, points: points.map(([number, value]) => `${x(number)},${y(value)}`).join(" ") });
    line.append(svg("title", {}, label));
    const [number, value] = points.at(-1);
    parts.push(line, svg("circle", { class: `end ${kind}`, cx: x(number), cy: y(value), r: 2.5 }));
  }
  const [number, newest] = there.at(-1)[2].at(-1);
  const summary = `${shown(name, newest)} at round ${number}`;
  figure.querySelector("[data-summary]").textContent = summary;
  const picture = figure.querySelector("svg");
  picture.setAttribute("aria-label", `${figure.querySelector("strong").textContent}: ${summary}`);
  picture.replaceChildren(...parts);
}

export function drawCharts(root, curves, names) {
  if (!curves.length) return;
  for (const figure of root.querySelectorAll("[data-chart]")) drawOne(figure, curves, names);
}
