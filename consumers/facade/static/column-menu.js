/** Which columns to show. Fires `hide-columns` ({hidden: Set of keys, or null for "those that fit"}). */
import { COLUMNS } from "./columns.js";
import { element, icon } from "./dom.js";

class ColumnMenu extends HTMLElement {
  #boxes = new Map();
  #fit = element("button", { type: "button", class: "plain" }, "Fit to window");

  connectedCallback() {
    const menu = element("div", { popover: "auto", class: "menu", id: "column-menu", role: "group", "aria-label": "Columns" });
    const button = element(
      "button",
      { type: "button", class: "icon-button", popovertarget: menu.id, "aria-label": "Columns", title: "Columns" },
      icon("columns"),
    );
    for (const column of COLUMNS) menu.append(this.#choiceOf(column));
    this.#fit.addEventListener("click", () => this.#fire(null));
    menu.append(this.#fit);
    menu.addEventListener("toggle", () => placeBelow(menu, button));
    this.replaceChildren(button, menu);
  }

  show(columns, chosen) {
    const keys = new Set(columns.map(({ key }) => key));
    for (const [key, box] of this.#boxes) box.checked = keys.has(key);
    this.#fit.disabled = !chosen;
  }

  #choiceOf({ key, title }) {
    const box = element("input", { type: "checkbox", disabled: key === "machine" });
    box.addEventListener("change", () => {
      const hidden = [...this.#boxes].filter(([, one]) => !one.checked).map(([hiddenKey]) => hiddenKey);
      this.#fire(new Set(hidden));
    });
    this.#boxes.set(key, box);
    return element("label", {}, box, title);
  }

  #fire(hidden) {
    this.dispatchEvent(new CustomEvent("hide-columns", { detail: { hidden } }));
  }
}

function placeBelow(menu, button) {
  const { bottom, right } = button.getBoundingClientRect();
  menu.style.top = `${bottom + 6}px`;
  menu.style.right = `${Math.max(8, document.documentElement.clientWidth - right)}px`;
}

customElements.define("column-menu", ColumnMenu);
