/** Short messages that go away by themselves. Errors stay longer, and can be closed. */
import { element, icon } from "./dom.js";

const NEWS_MS = 4000;
const ERROR_MS = 12_000;
const MOST = 4;

class ToastStack extends HTMLElement {
  connectedCallback() {
    this.setAttribute("aria-live", "polite");
  }

  news(text) {
    this.#add(text, "news", NEWS_MS);
  }

  error(text) {
    this.#add(text, "error", ERROR_MS);
  }

  #add(text, kind, milliseconds) {
    const close = element("button", { type: "button", class: "icon-button", "aria-label": "Dismiss" }, icon("close"));
    const toast = element("p", { class: "toast", "data-kind": kind, role: kind === "error" ? "alert" : null }, text, close);
    const timer = setTimeout(() => toast.remove(), milliseconds);
    close.addEventListener("click", () => {
      clearTimeout(timer);
      toast.remove();
    });
    this.append(toast);
    while (this.childElementCount > MOST) this.firstElementChild.remove();
  }
}

customElements.define("toast-stack", ToastStack);
