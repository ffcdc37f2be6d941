// Reads a JSON list of expressions from its input and writes one line for each that is no PromQL.
import { readFileSync } from "node:fs";
import { parser } from "@prometheus-io/lezer-promql";

for (const expression of JSON.parse(readFileSync(0, "utf8"))) {
  let at = null;
  parser.parse(expression).iterate({
    enter(node) {
      if (node.type.isError && at === null) at = node.from;
    },
  });
  if (at !== null) console.log(`${expression}: no PromQL from character ${at} on`);
}
