/** Draws /openapi.json: an entry for each operation, with its parameters, body and answers. */

const operations = document.querySelector("#operations");
const contents = document.querySelector("#contents");

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The schema with references followed, to a depth that a person still reads. */
function resolved(api, schema, depth = 4) {
  if (Array.isArray(schema)) return schema.map((each) => resolved(api, each, depth));
  if (schema === null || typeof schema !== "object") return schema;
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split("/").at(-1);
    return depth === 0 ? name : resolved(api, api.components.schemas[name], depth - 1);
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, resolved(api, value, depth)]));
}

/** A schema in a few words. */
function kindOf(schema = {}) {
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.anyOf) return schema.anyOf.map(kindOf).join(" or ");
  if (schema.type === "array") return `list of ${kindOf(schema.items)}`;
  return schema.pattern ? `${schema.type}, ${schema.pattern}` : (schema.type ?? "anything");
}

function parameterTable(parameters) {
  const rows = parameters.map(({ name, in: place, required, schema, description }) =>
    element(
      "tr",
      {},
      element("td", {}, element("code", {}, name)),
      element("td", {}, required ? `${place}, required` : place),
      element("td", {}, kindOf(schema)),
      element("td", {}, description ?? (schema.default === undefined ? "" : `default ${JSON.stringify(schema.default)}`)),
    ),
  );
  return element("table", {}, element("tbody", {}, ...rows));
}

function schemaOf(api, content) {
  const [[type, { schema }]] = Object.entries(content);
  return [
    element("p", {}, element("code", {}, type)),
    element("pre", { tabindex: "0" }, JSON.stringify(resolved(api, schema), null, 2)),
  ];
}

function answerTable(responses) {
  const rows = Object.entries(responses).map(([status, { description }]) =>
    element("tr", {}, element("td", {}, element("code", {}, status)), element("td", {}, description)),
  );
  return element("table", {}, element("tbody", {}, ...rows));
}

function entry(api, path, method, operation) {
  const inside = element("div", { class: "inside" });
  if (operation.description) inside.append(element("p", {}, operation.description));
  if (operation.parameters) inside.append(element("h3", {}, "Parameters"), parameterTable(operation.parameters));
  if (operation.requestBody) inside.append(element("h3", {}, "Body"), ...schemaOf(api, operation.requestBody.content));
  inside.append(element("h3", {}, "Answers"), answerTable(operation.responses));
  const success = Object.values(operation.responses).find(({ content }) => content);
  if (success && !success.content["application/problem+json"]) inside.append(...schemaOf(api, success.content));
  return element(
    "details",
    { id: operation.operationId },
    element(
      "summary",
      {},
      element("code", { class: "method" }, method.toUpperCase()),
      element("code", {}, path),
      element("span", { class: "what" }, operation.summary),
    ),
    inside,
  );
}

function draw(api) {
  const byTag = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const [tag] = operation.tags;
      if (!byTag.has(tag)) byTag.set(tag, []);
      byTag.get(tag).push(entry(api, path, method, operation));
    }
  }
  const links = [...byTag.keys()].map((tag) => element("li", {}, element("a", { href: `#${tag}` }, tag)));
  contents.append(element("ul", {}, ...links));
  for (const [tag, entries] of byTag) operations.append(element("h2", { id: tag }, tag), ...entries);
}

try {
  const response = await fetch("/openapi.json");
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  draw(await response.json());
} catch (error) {
  operations.append(element("p", { role: "alert" }, `The API's description could not be loaded: ${error.message}.`));
}
