/* The devices of a round; the same picture as training/web/cards.py, which draws it without JavaScript. */
import { at, cell, element, show, time } from "./build.js";

const MOST_CARDS = 24;
const MOST_GROUPS = 50;
const WORDS = ["refused", "late", "dropped", "declined", "training", "waiting", "called off", "not needed", "sent"];
const TROUBLE = ["refused", "late", "dropped", "declined"];
const UNFINISHED = ["training", "waiting"];
const UNSETTLED = new Set(["offered", "training", "declined", "expired"]);
const asked = new URLSearchParams(location.search);
const find = (asked.get("find") ?? "").trim();
let chosen = WORDS.includes(asked.get("show")) ? asked.get("show") : "";
let page = Math.max(1, Number.parseInt(asked.get("devices"), 10) || 1);

/* A refusal is what a card tells until something better came. */
export function wordOf(card) {
  return card.refusal && UNSETTLED.has(card.state) ? "refused" : card.word;
}

function noteOf(card, word) {
  return word === "refused" ? card.refusal.sentence : card.reason;
}

/* How many devices the round has, and how many are called what: counted here, or by the portal when there are too many
   to be sent. */
export function counted(cards, tally) {
  if (tally?.total > cards.length) return { large: true, total: tally.total, counts: new Map(Object.entries(tally.words)) };
  const counts = new Map();
  for (const card of cards) counts.set(wordOf(card), (counts.get(wordOf(card)) ?? 0) + 1);
  return { large: false, total: cards.length, counts };
}

function matches(card) {
  const text = find.toLowerCase();
  return card.device.identifier.toLowerCase().includes(text) || card.organization.name.toLowerCase().includes(text);
}

function query(word, number) {
  return new URLSearchParams({ ...(word && { show: word }), ...(find && { find }), ...(number > 1 && { devices: number }) });
}

function nobody(over) {
  if (find) return `No device${chosen ? ` that is ${chosen}` : ""} has “${find}” in its name.`;
  if (chosen) return `No device is ${chosen} now.`;
  return over ? "No device took part." : "No device takes part yet.";
}

export function drawDevices(cards, tally, over = false) {
  at("devices-title").textContent = `Devices in ${over ? "the last" : "this"} round`;
  const { large, total, counts } = counted(cards, tally);
  counts.set("", total);
  drawCounts(counts);
  at("find-box").hidden = total <= MOST_CARDS && !find;
  if (large) return drawPage(cards, tally, over);
  const words = new Map(cards.map((card) => [card, wordOf(card)]));
  let shown = cards.filter((card) => (!chosen || words.get(card) === chosen) && matches(card));
  if (shown.length > MOST_CARDS) {
    shown = shown.toSorted((one, other) => WORDS.indexOf(words.get(one)) - WORDS.indexOf(words.get(other)));
  }
  const last = Math.max(1, Math.ceil(shown.length / MOST_CARDS));
  page = Math.min(page, last);
  const made = shown.slice((page - 1) * MOST_CARDS, page * MOST_CARDS).map((card) => drawCard(card, words.get(card)));
  at("participants").replaceChildren(...(made.length ? made : [element("li", "soft", nobody(over))]));
  at("card-pages").hidden = last === 1;
  at("page-of").textContent = `Page ${page} of ${last}`;
  document.querySelector('[data-page="-1"]').hidden = page === 1;
  document.querySelector('[data-page="1"]').hidden = page === last;
  drawGroups(cards.length > MOST_CARDS ? groupsOf(cards, words) : []);
}

/* How many cards of a large round all pages show. */
function countOf(tally) {
  return find ? Number(at("find").dataset.find) : chosen ? tally.words[chosen] ?? 0 : tally.total;
}

/* Whether the page shows other cards than the first ones of the round. */
export function elsewhere() {
  return page > 1 || chosen !== "" || find !== "";
}

/* Whether there are more cards for this page of a large round than are here. */
export function lacking(cards, tally) {
  return cards.filter(matches).length < Math.min(MOST_CARDS, countOf(tally) - (page - 1) * MOST_CARDS);
}

/* A page of a large round: the cards that are here stay and change; another page comes from the portal. */
function drawPage(cards, tally, over) {
  const made = cards.filter(matches).slice(0, MOST_CARDS).map((card) => drawCard(card, wordOf(card)));
  at("participants").replaceChildren(...(made.length ? made : [element("li", "soft", nobody(over))]));
  const last = Math.max(1, Math.ceil(countOf(tally) / MOST_CARDS));
  const here = Math.min(page, last); // for a page beyond the last the portal sends that one
  at("card-pages").hidden = last === 1;
  at("page-of").textContent = `Page ${here} of ${last}`;
  for (const turn of [-1, 1]) {
    const link = document.querySelector(`[data-page="${turn}"]`);
    link.hidden = here + turn < 1 || here + turn > last;
    link.href = `?${query(chosen, here + turn)}#devices`;
  }
  drawGroups(tally.groups);
}

function drawCounts(counts) {
  const list = at("counts");
  for (const word of ["", ...WORDS]) {
    let link = list.querySelector(`[data-show="${word}"]`);
    if (!link && counts.get(word)) {
      link = element("a");
      link.href = `?${query(word, 1)}#devices`;
      link.dataset.show = word;
      const item = element("li");
      item.append(link);
      list.append(item);
    }
    if (!link) continue;
    // What one has chosen stays, so that the focus does not get lost.
    link.parentElement.hidden = word !== "" && !counts.get(word) && word !== chosen;
    const text = `${word || "all"} ${counts.get(word) ?? 0}`;
    if (link.textContent !== text) link.textContent = text;
    if (word === chosen) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
  }
}

function drawCard(card, word) {
  const item = element("li", `card part part-${word.replace(" ", "-")} part-${card.state}`);
  const behind = card.devices > 1 ? ` of ${card.devices} devices` : "";
  const rows = card.samples == null ? "" : `${card.samples} rows${behind}`;
  const took = card.seconds == null ? "" : `${rows ? ", " : ""}${card.seconds.toFixed(2)} s`;
  const effort = card.effort ? `, ${card.effort}` : "";
  const old = !card.staleness ? "" : `${rows + took ? ", " : ""}${card.staleness} model${card.staleness === 1 ? "" : "s"} old`;
  const last = element("span", "small soft wide");
  if (card.before) last.textContent = `${card.before.word} in round ${card.before.number}`;
  else if (card.last_seen_at && word !== "sent") last.append("last seen ", time(card.last_seen_at, "ago"));
  item.append(element("strong", "", card.device.identifier), element("span", "badge part-badge", word),
    element("span", "soft", card.organization.name), element("span", "small soft", rows + took + effort + old),
    element("span", "small wide", noteOf(card, word)),
    element("span", "small wide unusual", card.unusual ? `Flagged: ${card.unusual}` : ""), last);
  return item;
}

function groupsOf(cards, words) {
  const groups = new Map();
  for (const card of cards) {
    const name = card.organization.name;
    const row = groups.get(name) ?? { name, devices: 0, sent: 0, working: 0, trouble: 0 };
    const word = words.get(card);
    row.devices += 1;
    if (word === "sent") row.sent += 1;
    else if (UNFINISHED.includes(word)) row.working += 1;
    else if (TROUBLE.includes(word)) row.trouble += 1;
    groups.set(name, row);
  }
  return [...groups.values()].sort((one, other) => other.trouble - one.trouble || (one.name < other.name ? -1 : 1));
}

function drawGroups(groups) {
  at("groups-box").hidden = !groups.length;
  at("groups").replaceChildren(...groups.slice(0, MOST_GROUPS).map((row) => {
    const line = element("tr");
    line.append(cell("Organization", "", row.name), cell("Devices", "number", row.devices), cell("Sent", "number", row.sent),
      cell("At work", "number", row.working), cell("Trouble", "number", row.trouble));
    return line;
  }));
}

/* Choosing and turning pages without loading the page anew, unless the portal has to send the cards. */
export function listen(redraw, large) {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-show], a[data-page]");
    if (!link || large() || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    if (link.dataset.page) page += Number(link.dataset.page);
    else [chosen, page] = [link.dataset.show, 1];
    at("find-among").value = chosen;
    history.replaceState(null, "", `${location.pathname}?${query(chosen, page)}`);
    redraw();
  });
}

/* Why the run waits: who is missing, what happens at the deadline, and what one can do. */
export function drawWaiting(waiting) {
  at("waiting-box").hidden = !waiting;
  if (!waiting) {
    show(at("waiting"), "");
    replaceIfNew(at("missing"), []);
    return replaceIfNew(at("advice"), []);
  }
  show(at("waiting"), waiting.lead ?? waiting.sentence);
  if (!waiting.missing) return; // a snapshot that was asked for says it; until then stands what was known
  const missing = waiting.missing.map((one) => {
    const item = element("li");
    item.append(element("strong", "", one.who), one.reason ? `: ${one.reason}` : "");
    if (one.last_seen_at) item.append("; last seen ", time(one.last_seen_at, "ago"));
    else if (!one.reason) item.append(": never seen");
    return item;
  });
  replaceIfNew(at("missing"), missing);
  replaceIfNew(at("advice"), (waiting.advice ?? []).map((line) => element("li", "", line)));
}

function replaceIfNew(list, items) {
  const text = items.map((item) => item.textContent).join("\n");
  if (list.dataset.held === text) return;
  list.dataset.held = text;
  list.replaceChildren(...items);
}
