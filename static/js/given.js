/* What each organization gave; the same table as templates/training/run/given.html. */
import { at, cell, element } from "./build.js";

export function drawGiven(contributions) {
  const rows = contributions.map((given) => {
    const row = element("tr");
    const bar = element("progress");
    bar.max = 1;
    bar.value = given.share;
    bar.setAttribute("aria-label", `Share of ${given.organization.name}`);
    const share = element("div", "share");
    share.append(bar, element("span", "", `${Math.round(100 * given.share)} %`));
    row.append(cell("Organization", "", given.organization.name), cell("Devices", "number", given.devices),
      cell("Updates", "number", `${given.updates} of ${given.expected}`), cell("Rows, all rounds", "number", given.samples), cell("Share", "", share));
    return row;
  });
  if (rows.length) at("contributions").replaceChildren(...rows);
}
