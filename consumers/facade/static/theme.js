// Runs before the first paint, so that a page set to dark never flashes white. Not a module: those wait for the parser.
(() => {
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is switched off: the system's choice stands.
  }
})();
