/* What happened, line by line; on a page of older events it stands still. */
import { at, element, time } from "./build.js";

const MOST_NEWS = 100;

export function log(message) {
  const list = at("log");
  if (!list) return;
  const prefixes = list.dataset.log.split(",");
  if (list.dataset.log && !prefixes.some((prefix) => message.kind.startsWith(prefix))) return;
  const item = element("li");
  item.dataset.sequence = message.sequence;
  item.append(time(message.at, "clock"), " ", message.text);
  list.prepend(item);
  at("log-empty").hidden = true;
  while (list.children.length > MOST_NEWS) {
    list.lastElementChild.remove();
    at("older-box").hidden = false;
  }
}

export function gap() {
  at("log")?.prepend(element("li", "soft", "What happened while this page was away is too much to show here; reload it, and look under Older."));
}

export function drawOlder() {
  const link = at("older");
  const last = at("log")?.lastElementChild?.dataset.sequence;
  if (!link || !last) return;
  const query = new URLSearchParams(link.search);
  query.set("before", last);
  link.search = query;
}
