/* The names of a model's columns from the header of a CSV file. The file's beginning is read here in the browser, and
   nothing of it is sent: only the names reach the form, where they can be seen and changed. */
import { element, show } from "./build.js";

const MOST_BYTES = 1 << 20;

/* The cells of the first line; a quoted one may hold separators and doubled quotes. */
function header(text) {
  const line = text.replace(/^\uFEFF/, "").split(/\r?\n/, 1)[0];
  const separator = [",", ";", "\t"].reduce((best, each) => (line.split(each).length > line.split(best).length ? each : best));
  const names = [""];
  let quoted = false;
  for (const letter of line.replaceAll('""', "\u0000")) {
    if (letter === '"') quoted = !quoted;
    else if (letter === separator && !quoted) names.push("");
    else names[names.length - 1] += letter === "\u0000" ? '"' : letter;
  }
  return names.map((name) => name.trim()).filter(Boolean);
}

/* As the form reads it again: a name with a separator in it stands in quotes. */
const written = (name) => (/[,;\t"]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name);

for (const part of document.querySelectorAll("[data-header]")) {
  const field = document.getElementById(part.dataset.header);
  const file = part.querySelector("input");
  const target = part.querySelector("select");
  const inputs = field.form.elements.inputs;
  let names = [];
  const fill = () => {
    if (!target.value) return;
    const kept = names.filter((name, place) => String(place) !== target.value);
    field.value = kept.map(written).join("\n");
    inputs.value = "";
    show(part.querySelector("[data-words]"), `${kept.length} names are filled in; ${names[target.value]} is what is predicted.`);
  };
  const read = async () => {
    if (!file.files.length) return;
    names = header(await file.files[0].slice(0, MOST_BYTES).text());
    target.replaceChildren(target.options[0], ...names.map((name, place) => {
      const option = element("option", "", name);
      option.value = place;
      return option;
    }));
    target.value = "";
    target.closest("[data-predicted]").hidden = names.length < 2;
    show(part.querySelector("[data-words]"), names.length < 2 ? "The first line of this file names no columns." : "");
  };
  file.addEventListener("change", read);
  target.addEventListener("change", fill);
  part.hidden = false;
}
