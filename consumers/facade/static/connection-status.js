/** Whether what is on the page is live. */
import { element, textWriter } from "./dom.js";
import { timeOfDay } from "./time.js";

class ConnectionStatus extends HTMLElement {
  #text = element("span");
  #write = textWriter(this.#text);

  connectedCallback() {
    this.setAttribute("role", "status");
    this.replaceChildren(element("span", { class: "dot" }), this.#text);
    this.connecting();
  }

  connecting() {
    this.#show("connecting", "Connecting…");
  }

  loading(machines) {
    this.#show("connecting", machines > 0 ? `Loading ${machines.toLocaleString()}…` : "Loading…");
  }

  signedOut() {
    this.#show("connecting", "Signed out");
  }

  live() {
    this.#show("live", "Live");
  }

  /** `since`: the moment that the page shows; null when it shows nothing yet. */
  lost(since) {
    this.#show("lost", since === null ? "Reconnecting…" : `Reconnecting… as of ${timeOfDay(since)}`);
  }

  #show(state, text) {
    this.dataset.connection = state;
    this.#write(text);
  }
}

customElements.define("connection-status", ConnectionStatus);
