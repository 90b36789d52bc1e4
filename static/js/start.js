/* The form that starts a run says what it would do while one types: parts of it are fetched as HTML and put in place.
   Without this module the buttons reload the page, which shows the same. */
import { showTimes } from "./page.js";

const form = document.querySelector("form[data-start]");
const WAIT = 350;
let timer;
let asking;

function address() {
  const said = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (name !== "csrfmiddlewaretoken") said.append(name, value);
  return said;
}

async function renew(part) {
  asking?.abort();
  asking = new AbortController();
  const preview = document.getElementById("preview");
  preview.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`${form.dataset.start}?${address()}`, { signal: asking.signal });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const id of part ? [part, "preview"] : ["preview"]) put(page.getElementById(id));
    mark(page);
  } catch (error) {
    if (error.name !== "AbortError") preview.removeAttribute("aria-busy");
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
  timer = setTimeout(() => renew(part), part ? 0 : WAIT);
}

form.addEventListener("input", (event) => { if (event.target.matches("input")) later(); });
form.addEventListener("change", (event) => { if (event.target.matches("select")) later(event.target.dataset.renews); });
form.querySelector("[data-preview]").hidden = true;
/* Devices come and go while one thinks. */
setInterval(() => { if (!document.hidden && !asking?.signal.aborted) renew(); }, 15000);
