/** How many machines are in which state. A click leaves only those; fires `states` ({states}). */
import { element, textWriter } from "./dom.js";
import { STATES } from "./machine.js";

/** Shown from best to worst: the eye ends at the trouble. */
const SHOWN = STATES.toReversed();

class SummaryBar extends HTMLElement {
  #chosen = new Set();
  #parts = new Map();

  connectedCallback() {
    const shares = element("div", { class: "shares", "aria-hidden": "true" });
    const group = element("div", { class: "chips", role: "group", "aria-label": "Filter by state" });
    for (const state of SHOWN) {
      const part = this.#partOf(state);
      this.#parts.set(state, part);
      group.append(part.button);
      shares.append(part.share);
    }
    this.replaceChildren(group, shares);
  }

  show(countOf, chosen) {
    this.#chosen = chosen;
    for (const [state, part] of this.#parts) {
      const count = countOf(state);
      part.button.setAttribute("aria-pressed", chosen.has(state));
      if (!part.write(count.toLocaleString())) continue;
      part.share.style.flexGrow = count;
      part.button.classList.toggle("none", count === 0);
    }
  }

  #partOf(state) {
    const count = element("span", { class: "number" });
    const button = element(
      "button",
      { type: "button", class: "chip", "data-state": state, "aria-pressed": "false" },
      element("span", { class: "dot" }),
      count,
      element("span", { class: "label" }, state),
    );
    button.addEventListener("click", () => this.#toggle(state));
    return { button, write: textWriter(count), share: element("span", { "data-state": state }) };
  }

  #toggle(state) {
    const states = new Set(this.#chosen);
    if (!states.delete(state)) states.add(state);
    this.dispatchEvent(new CustomEvent("states", { detail: { states } }));
  }
}

customElements.define("summary-bar", SummaryBar);
