/** A button that goes round system, light and dark, and remembers the choice in this browser. */
import { element, icon } from "./dom.js";

const THEMES = ["system", "light", "dark"];

class ThemeToggle extends HTMLElement {
  #button = element("button", { type: "button", class: "icon-button" });

  connectedCallback() {
    this.#button.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(this.#theme) + 1) % THEMES.length];
      this.#choose(next);
    });
    this.replaceChildren(this.#button);
    this.#show();
  }

  get #theme() {
    return document.documentElement.dataset.theme ?? "system";
  }

  #choose(theme) {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // Storage is switched off: the choice lasts until the page is closed.
    }
    this.#show();
  }

  #show() {
    const label = `Theme: ${this.#theme}`;
    this.#button.replaceChildren(icon(this.#theme));
    this.#button.setAttribute("aria-label", label);
    this.#button.title = label;
  }
}

customElements.define("theme-toggle", ThemeToggle);
