/** Building elements. Text goes in as text nodes only, so nothing that a machine or a person wrote can become markup. */

/** `element("td", {class: "id"}, "text", otherElement)`; attributes that are null or false are left out. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue;
    made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** A button that does nothing by itself. */
export function button(text, kind = null) {
  return element("button", { type: "button", class: kind }, text);
}

/** One of the symbols in index.html. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A function that writes a text into a node, and says whether that was news. It touches the page only then. */
export function textWriter(node) {
  let shown = "";
  return (text) => {
    if (text === shown) return false;
    shown = text;
    node.textContent = text;
    return true;
  };
}

/** The same for an attribute; an empty text removes it. */
export function attributeWriter(node, name) {
  let shown = "";
  return (text) => {
    if (text === shown) return false;
    shown = text;
    if (text === "") node.removeAttribute(name);
    else node.setAttribute(name, text);
    return true;
  };
}
