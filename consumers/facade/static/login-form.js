/** Asks for an API token and trades it for a cookie. Fires `signed-in`. */
import { login, Problem } from "./api.js";
import { element } from "./dom.js";

class LoginForm extends HTMLElement {
  #token = element("input", {
    type: "password",
    name: "token",
    id: "login-token",
    required: true,
    autocomplete: "current-password",
    "aria-describedby": "login-problem",
  });
  #button = element("button", { type: "submit", class: "primary" }, "Sign in");
  #problem = element("p", { class: "problem", id: "login-problem", role: "alert" });

  connectedCallback() {
    const form = element(
      "form",
      { class: "card", method: "post", action: "/login" },
      element("h2", {}, "Sign in"),
      element("p", {}, "This lab asks who you are. Paste your API token; this browser then keeps a cookie."),
      element("input", { type: "text", autocomplete: "username", value: "API token", hidden: true }), // for password managers
      element("label", { for: "login-token" }, "API token"),
      this.#token,
      this.#problem,
      this.#button,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.replaceChildren(form);
  }

  /** `why`: what is wrong with the token that the browser has. */
  open(why = "") {
    this.#problem.textContent = why;
    if (!this.hidden) return;
    this.hidden = false;
    this.#token.focus();
  }

  async #submit() {
    this.#button.disabled = true;
    this.#problem.textContent = "";
    try {
      await login(this.#token.value.trim());
      this.#token.value = "";
      this.hidden = true;
      this.dispatchEvent(new CustomEvent("signed-in"));
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.#problem.textContent = problem.message;
      this.#token.select();
    } finally {
      this.#button.disabled = false;
    }
  }
}

customElements.define("login-form", LoginForm);
