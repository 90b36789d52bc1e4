/* The form that starts a run says what it would do while one types: parts of it are fetched as HTML and put in place.
   Without this module the buttons reload the page, which shows the same. */
import { showTimes } from "./page.js";

const form = document.querySelector("form[data-start]");
const WAIT = 350;
const MOST_SHARES = 50;
let timer;
let asking = null;
const pending = new Set(); // parts to be put in place; those of a request that was given up come with the next

function address() {
  const said = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (name !== "csrfmiddlewaretoken") said.append(name, value);
  return said;
}

async function renew() {
  asking?.abort();
  const mine = new AbortController();
  asking = mine;
  document.getElementById("preview").setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`${form.dataset.start}?${address()}`, { signal: mine.signal });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (asking !== mine) return;
    for (const id of [...pending, "preview"]) put(page.getElementById(id));
    pending.clear();
    mark(page);
  } catch (error) {
    if (!(error instanceof TypeError) && error.name !== "AbortError") throw error; // the portal is away: the next try tells
  } finally {
    if (asking === mine) {
      asking = null;
      document.getElementById("preview").removeAttribute("aria-busy");
    }
  }
}

/* What has the focus keeps it: its part is put in place around it. */
function put(fresh) {
  if (!fresh) return;
  const focused = document.activeElement?.id;
  const old = document.getElementById(fresh.id);
  old.replaceWith(fresh);
  if (focused && old.querySelector(`[id="${focused}"]`)) document.getElementById(focused)?.focus();
  showTimes(fresh);
}

/* Fields that are wrong are marked where they stand; nothing that one types is replaced. */
function mark(page) {
  for (const input of form.querySelectorAll(".field input, .field select")) {
    const fresh = page.getElementById(input.id)?.closest(".field");
    if (!fresh) continue;
    const bad = fresh.classList.contains("bad");
    input.closest(".field").classList.toggle("bad", bad);
    if (bad) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }
}

function later(part) {
  clearTimeout(timer);
  if (part) pending.add(part);
  timer = setTimeout(renew, pending.size ? 0 : WAIT);
}

/* Whoever writes into the last row gets another. */
function another(row) {
  const number = Number(row?.dataset.share);
  if (!(number < MOST_SHARES) || form.querySelector(`[data-share="${number + 1}"]`)) return;
  const fresh = row.cloneNode(true);
  fresh.dataset.share = number + 1;
  fresh.setAttribute("aria-label", `Row ${number + 1}`);
  for (const input of fresh.querySelectorAll("input")) {
    const name = input.name.replace(/\d+$/, number + 1);
    input.previousElementSibling.htmlFor = name;
    Object.assign(input, { id: name, name, value: "" });
    input.removeAttribute("aria-invalid");
    input.closest(".field").classList.remove("bad");
  }
  row.after(fresh);
}

form.addEventListener("input", (event) => {
  if (!event.target.matches("input")) return;
  another(event.target.closest("[data-share]"));
  later();
});
form.addEventListener("change", (event) => { if (event.target.matches("select")) later(event.target.dataset.renews); });
form.querySelector("[data-preview]").hidden = true;
/* Devices come and go while one thinks. */
setInterval(() => { if (!document.hidden && !asking) renew(); }, 15000);

/* A second click would start a second run. Whoever comes back to the page may press again. */
const start = form.querySelector("button.primary");
form.addEventListener("submit", (event) => {
  if (event.submitter === start || !event.submitter) setTimeout(() => { start.disabled = true; }, 0);
});
window.addEventListener("pageshow", () => { start.disabled = false; });
