/** Puts the page together. */
import { byId } from "./dom.js";
import { Player } from "./player.js";
import { Playground } from "./playground.js";

const THEME = "thread-budget-theme";

new Playground();
const player = new Player();

const dark = byId<HTMLButtonElement>("dark");
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function isDark(): boolean {
  const chosen = document.documentElement.dataset["theme"];
  return chosen ? chosen === "dark" : systemDark.matches;
}

function showTheme(): void {
  dark.setAttribute("aria-checked", String(isDark()));
  player.redraw();
}

dark.addEventListener("click", () => {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset["theme"] = theme;
  remember(theme);
  showTheme();
});
systemDark.addEventListener("change", showTheme);
const remembered = recall();
if (remembered) document.documentElement.dataset["theme"] = remembered;
showTheme();

// A page that was opened as a file may have no storage: the theme is then that of the system again next time.
function remember(theme: string): void {
  try {
    localStorage.setItem(THEME, theme);
  } catch {
    return;
  }
}

function recall(): string | null {
  try {
    return localStorage.getItem(THEME);
  } catch {
    return null;
  }
}
