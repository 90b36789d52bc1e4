/* Finding and making elements: text only ever arrives as text. */
export function at(name) {
  return document.querySelector(`[data-${name}]`);
}

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined && text !== null) made.textContent = text;
  return made;
}

export function cell(label, className, content) {
  const made = element("td", className);
  made.dataset.label = label;
  made.append(content);
  return made;
}

export function time(moment, kind) {
  const made = element("time", "", moment.slice(11, 19));
  made.dateTime = moment;
  made.dataset[kind] = "";
  return made;
}

/* A text that is only written when it changed, and hidden when it is empty. */
export function show(target, text) {
  target.hidden = !text;
  if (target.textContent !== (text ?? "")) target.textContent = text ?? "";
}
