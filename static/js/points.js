/* The curves as numbers: a point for every model that was measured, and the names of those that measured. */
const MOST_POINTS = 600; // twice what a fresh snapshot holds; then every second one goes

/* Whoever measures something for the first time comes behind those that did before, so that these keep their colours. */
function arrange(state, organizations) {
  const { names } = state;
  for (const { organization } of state.contributions) names[organization.id] ??= organization.name;
  const before = new Set(state.curves.flatMap((point) => Object.keys(point.organizations)));
  const rows = Object.keys(names).filter((key) => !before.has(key));
  const lower = (key) => names[key].toLowerCase();
  rows.sort((one, other) => (other in organizations) - (one in organizations) || (lower(one) < lower(other) ? -1 : 1));
  const order = [...Object.keys(names).filter((key) => before.has(key)), ...rows];
  state.names = Object.fromEntries(order.map((key) => [key, names[key]]));
}

export function addPoint(state, point) {
  if (Object.keys(point.organizations).some((key) => !state.curves.some((one) => key in one.organizations))) arrange(state, point.organizations);
  let curves = state.curves.filter((one) => one.number !== point.number);
  curves.push(point);
  curves.sort((one, other) => one.number - other.number);
  if (curves.length > MOST_POINTS) {
    const last = curves.length - 1;
    curves = curves.filter((one, index) => index % 2 === 0 || index === last || one.number === state.run.best_round);
  }
  state.curves = curves;
}
