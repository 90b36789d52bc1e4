/* Light or dark: the system's wish unless the reader chose. Loaded first, so that nothing flashes. */
const KEY = "fedportal-theme";
const stored = () => { try { return localStorage.getItem(KEY); } catch { return null; } };
const apply = (theme) => {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
};
const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
apply(stored());
addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      const theme = isDark() ? "light" : "dark";
      try { localStorage.setItem(KEY, theme); } catch { /* a private window: the choice lasts for this page */ }
      apply(theme);
    });
  }
});
