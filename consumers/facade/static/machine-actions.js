/**
 * What a person can do about a machine. What is being typed is never touched by a change that arrives meanwhile.
 * Fires `done` ({text, machine: the answer, or null after a deletion}) and `failed` ({text}).
 */
import { machinePath, mayOperate, Problem, request } from "./api.js";
import { AskForm } from "./ask-form.js";
import { ATTACHED_DEVICES } from "./devices.js";
import { button, element } from "./dom.js";


class MachineActions extends HTMLElement {
  #machine = null;
  #role = "viewer";
  #maintenance = button("Put into maintenance…");
  #note = button("Edit note…");
  #quarantine = button("Clear quarantine");
  #delete = button("Delete…", "danger");
  #attached = element(
    "select",
    {},
    ...ATTACHED_DEVICES.map(([value, label]) => element("option", { value }, label)),
  );
  #form = new AskForm(() => this.#maintenance.focus());
  #viewerHint = element("p", { class: "hint" }, "You may look, but not change anything.");

  connectedCallback() {
    this.#maintenance.addEventListener("click", () => this.#toggleMaintenance());
    this.#note.addEventListener("click", () => this.#askNote());
    this.#quarantine.addEventListener("click", () => this.#clearQuarantine());
    this.#delete.addEventListener("click", () => this.#askDelete());
    this.#attached.addEventListener("change", () => this.#attach(this.#attached.value));
    const row = element("div", { class: "buttons" }, this.#maintenance, this.#quarantine, this.#note, this.#delete);
    const attached = element("label", { class: "attached" }, element("span", {}, "Attached device"), this.#attached);
    this.replaceChildren(row, this.#form.element, attached, this.#viewerHint);
  }

  showRole(role) {
    this.#role = role;
    this.#allow();
  }

  /** Another machine, or the same one, changed. */
  show(machine) {
    if (machine.id !== this.#machine?.id) this.#form.close();
    this.#machine = machine;
    const { description } = machine;
    this.#maintenance.textContent = description.MaintenanceMode ? "End maintenance" : "Put into maintenance…";
    this.#quarantine.hidden = !description.IsQuarantined;
    if (document.activeElement !== this.#attached) this.#attached.value = description.AttachedDevice;
  }

  #allow() {
    const may = mayOperate(this.#role);
    this.#viewerHint.hidden = may;
    for (const control of [this.#maintenance, this.#note, this.#quarantine, this.#delete, this.#attached]) {
      control.disabled = !may;
    }
  }

  #toggleMaintenance() {
    const { id, description } = this.#machine;
    if (description.MaintenanceMode) {
      this.#do("DELETE", ["maintenance"], undefined, `${id} is out of maintenance.`);
      return;
    }
    this.#form.open({
      label: "Why? (optional)",
      submit: "Put into maintenance",
      act: (reason) => this.#do("PUT", ["maintenance"], { reason }, `${id} is in maintenance.`),
    });
  }

  #askNote() {
    const { id, description } = this.#machine;
    this.#form.open({
      label: "Note (empty clears it)",
      value: description.Note?.Message ?? "",
      submit: "Save note",
      act: (message) =>
        message === ""
          ? this.#do("DELETE", ["note"], undefined, `The note of ${id} is gone.`)
          : this.#do("PUT", ["note"], { message }, `The note of ${id} is saved.`),
    });
  }

  #askDelete() {
    const { id } = this.#machine;
    this.#form.open({
      question: `Delete ${id}? It comes back, without its note and modes, when it reports again.`,
      submit: "Delete",
      danger: true,
      act: () => this.#do("DELETE", [], undefined, `${id} is deleted.`),
    });
  }

  #clearQuarantine() {
    this.#do("DELETE", ["quarantine"], undefined, `${this.#machine.id} is out of quarantine.`);
  }

  #attach(device) {
    const label = this.#attached.selectedOptions[0].textContent;
    this.#do("PUT", ["attached-device"], { attached_device: device }, `${this.#machine.id}: attached device is ${label}.`);
  }

  /** Whether the server did it. */
  async #do(method, rest, body, text) {
    const { id } = this.#machine;
    this.ariaBusy = "true";
    try {
      const machine = await request(method, machinePath(id, ...rest), body);
      this.#fire("done", { text, machine });
      return true;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.#fire("failed", { text: problem.message });
      this.#attached.value = this.#machine.description.AttachedDevice;
      return false;
    } finally {
      this.ariaBusy = "false";
    }
  }

  #fire(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

customElements.define("machine-actions", MachineActions);
