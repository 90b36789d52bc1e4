/* A lineage that is wider than its place shows its newest end first, or the version one looks at, and starts with a whole
   box: one that is cut on the left looks like a mistake. */
const EDGE = 8;

for (const place of document.querySelectorAll("[data-scroll-end]")) {
  const most = place.scrollWidth - place.clientWidth;
  if (most <= 0) continue;
  const zero = place.getBoundingClientRect().left - place.scrollLeft;
  const here = place.querySelector(".here rect");
  const wanted = here ? here.getBoundingClientRect().right - zero - place.clientWidth * 0.75 : most;
  const lefts = [...place.querySelectorAll("rect")].map((box) => box.getBoundingClientRect().left - zero - EDGE);
  const start = Math.min(...lefts.filter((left) => left >= Math.min(wanted, most)), Math.max(...lefts));
  if (start > most) place.firstElementChild.style.marginRight = `${Math.ceil(start - most)}px`; // room to scroll so far
  place.scrollLeft = start;
}
