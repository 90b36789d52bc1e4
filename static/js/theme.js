/* Light or dark: the system's wish unless the reader chose. Loaded first, so that nothing flashes. */
const KEY = "fedportal-theme";
const stored = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
const apply = (theme) => {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
};
apply(stored());
addEventListener("DOMContentLoaded", () => {
  const button = document.querySelector("[data-theme-toggle]");
  if (!button) return;
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    const theme = dark ? "light" : "dark";
    try { localStorage.setItem(KEY, theme); } catch { /* a private window: the choice lasts for this page */ }
    apply(theme);
  });
});
