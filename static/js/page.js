/* Small comforts of every page: times in the reader's zone, menus that close, and buttons that copy. */
const FORMAT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const CLOCK_OF_DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const EXACT = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });

export function ago(moment, now = Date.now()) {
  const seconds = Math.round((moment.getTime() - now) / 1000);
  for (const [size, unit] of [[86400, "day"], [3600, "hour"], [60, "minute"]]) {
    if (Math.abs(seconds) >= size) return RELATIVE.format(Math.trunc(seconds / size), unit);
  }
  return RELATIVE.format(seconds, "second");
}

function words(element, moment) {
  if (element.hasAttribute("data-ago")) return ago(moment);
  if (element.hasAttribute("data-clock")) {
    const today = moment.toDateString() === new Date().toDateString();
    return (today ? CLOCK : CLOCK_OF_DAY).format(moment);
  }
  return (element.hasAttribute("data-day") ? DAY : FORMAT).format(moment);
}

export function showTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const text = words(element, moment);
    if (element.textContent !== text) element.textContent = text;
    if (!element.hasAttribute("data-ago")) element.title = EXACT.format(moment);
  }
}

/* The exact time beside a relative one, by mouse and by keyboard; Escape takes it away. */
const tip = document.createElement("div");
tip.className = "tip";
tip.id = "exact-time";
tip.setAttribute("role", "tooltip");
tip.hidden = true;
document.body.append(tip);

function showTip(element) {
  tip.textContent = EXACT.format(new Date(element.dateTime));
  tip.hidden = false;
  element.setAttribute("aria-describedby", tip.id);
  const [at, size] = [element.getBoundingClientRect(), tip.getBoundingClientRect()];
  const above = at.top - size.height - 6;
  tip.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - size.width - 8))}px`;
  tip.style.top = `${above > 0 ? above : at.bottom + 6}px`;
}

function hideTip() {
  tip.hidden = true;
  document.querySelector(`[aria-describedby="${tip.id}"]`)?.removeAttribute("aria-describedby");
}

for (const [name, act] of [["mouseover", showTip], ["focusin", showTip], ["mouseout", hideTip], ["focusout", hideTip]]) {
  document.addEventListener(name, (event) => {
    const element = event.target.closest?.("time[data-ago]");
    if (element) act(element);
  });
}
addEventListener("scroll", hideTip, { passive: true, capture: true });

/* Menus close by Escape, which gives the focus back, and by whatever happens elsewhere. */
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  hideTip();
  const menu = document.activeElement?.closest("details.menu[open]") ?? document.querySelector("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
for (const name of ["pointerdown", "focusin"]) {
  document.addEventListener(name, (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
}

/* What scrolls sideways can be scrolled by keyboard. */
function markScrollers() {
  for (const one of document.querySelectorAll(".table, pre")) {
    if (one.scrollWidth <= one.clientWidth || one.hasAttribute("tabindex")) continue;
    one.tabIndex = 0;
    one.setAttribute("role", "region");
    const heading = one.closest("section, .card")?.querySelector("h2, h3");
    one.setAttribute("aria-label", `${heading ? heading.textContent.trim() : "Table"}, scrolls sideways`);
  }
}
markScrollers();
addEventListener("resize", markScrollers);

showTimes();
setInterval(showTimes, 10000);

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    await navigator.clipboard.writeText(source.textContent.trim());
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1500);
  });
}
for (const select of document.querySelectorAll("select[data-submit]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
