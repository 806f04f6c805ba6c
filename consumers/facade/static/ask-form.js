/** A small form that opens where something is about to be done: a question, a text to type, or both. Escape closes it. */
import { button, element } from "./dom.js";

const LONGEST_TEXT = 2000;

export class AskForm {
  element = element("form", { class: "ask", hidden: true });
  #refocus;

  /** `refocus()` puts the keyboard back to where it came from. */
  constructor(refocus) {
    this.#refocus = refocus;
  }

  /** `act(text)` says whether it was done; then the form closes, unless it asks something else by now. */
  open({ label, question, value = "", submit, danger = false, act }) {
    const input = element("input", { type: "text", maxlength: LONGEST_TEXT, autocomplete: "off", dir: "auto" });
    input.value = value;
    const go = element("button", { type: "submit", class: danger ? "danger" : "primary" }, submit);
    const cancel = button("Cancel");
    cancel.addEventListener("click", () => this.close({ refocus: true }));
    const asked = [
      ...(question ? [element("p", { dir: "auto" }, question)] : []),
      ...(label ? [element("label", {}, label, input)] : []),
    ];
    this.element.replaceChildren(...asked, element("div", { class: "buttons" }, go, cancel));
    this.element.hidden = false;
    this.element.onkeydown = (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation(); // closes the form, not the drawer
      this.close({ refocus: true });
    };
    this.element.onsubmit = async (event) => {
      event.preventDefault();
      go.disabled = true;
      if ((await act(input.value.trim())) && go.isConnected) this.close({ refocus: true });
      go.disabled = false;
    };
    (label ? input : cancel).focus();
  }

  close({ refocus = false } = {}) {
    this.element.replaceChildren();
    this.element.hidden = true;
    if (refocus) this.#refocus();
  }
}
