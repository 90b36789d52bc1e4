/* A lineage that is wider than its box shows its newest end first, or the version one looks at. */
for (const box of document.querySelectorAll("[data-scroll-end]")) {
  const here = box.querySelector(".here");
  box.scrollLeft = here ? here.getBoundingClientRect().right - box.getBoundingClientRect().left - box.clientWidth * 0.75 : box.scrollWidth;
}
