/** The search field with the number of machines that it leaves. Fires `search` ({text}) a moment after the last key. */
import { element, icon, textWriter } from "./dom.js";

const PAUSE_MS = 120;

class FilterBox extends HTMLElement {
  #input = element("input", {
    type: "search",
    placeholder: "Filter",
    "aria-label": "Filter machines: all words must match",
    title: "All words must match: id, state, device, dimension (such as pool:lab), note. Press / to come here.",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    maxlength: 300,
    enterkeyhint: "search",
  });
  #count = element("output", { class: "count", role: "status" });
  #timer = null;

  connectedCallback() {
    this.replaceChildren(element("label", { class: "search" }, icon("search"), this.#input), this.#count);
    this.#writeCount = textWriter(this.#count);
    this.#input.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#fire(), PAUSE_MS);
    });
    this.#input.addEventListener("keydown", (event) => this.#pressed(event));
  }

  #writeCount = () => {};

  get text() {
    return this.#input.value.trim();
  }

  set text(text) {
    if (text !== this.text) this.#input.value = text;
  }

  focus() {
    this.#input.focus();
    this.#input.select();
  }

  showCount(shown, all) {
    const [some, total] = [shown.toLocaleString(), all.toLocaleString()];
    const noun = all === 1 ? "machine" : "machines";
    this.#writeCount(shown === all ? `${total} ${noun}` : `${some} of ${total} ${noun}`);
  }

  #pressed(event) {
    if (event.key === "Enter") this.#fire();
    if (event.key !== "Escape" || this.#input.value === "") return;
    this.#input.value = "";
    this.#fire();
    event.stopPropagation(); // this Escape has done its work
  }

  #fire() {
    clearTimeout(this.#timer);
    this.dispatchEvent(new CustomEvent("search", { detail: { text: this.text } }));
  }
}

customElements.define("filter-box", FilterBox);
