// Light or dark, before anything is drawn: as chosen here before, else as the system is set.
document.documentElement.dataset.theme = (() => {
  const asked = (() => { try { return localStorage.getItem("pixelprune-theme"); } catch { return null; } })();
  if (asked === "light" || asked === "dark") return asked;
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
})();
