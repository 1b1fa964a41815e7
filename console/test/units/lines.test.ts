import assert from "node:assert/strict";
import { test } from "node:test";
import { endOf, fromTyped, toTyped } from "../../src/lines";

test("a text that is shown and saved has the ends of line it had", () => {
  for (const text of ["", "a", "a\n", "\n\n", "#!/bin/sh\necho\n", "a\r\n", "a\r\n\r\nb"]) {
    const end = endOf(text);
    assert.ok(end, JSON.stringify(text));
    assert.equal(fromTyped(toTyped(text), end), text);
  }
  assert.equal(fromTyped("a\nb\nc\n", "\r\n"), "a\r\nb\r\nc\r\n");
});

test("a text whose lines end in several ways, or with a lone CR, is not for a text area", () => {
  for (const text of ["#!/bin/sh\necho\r\n", "a\rb", "a\r", "a\r\r\n", "\r\r\n\n", "a\r\nb\n"]) {
    assert.equal(endOf(text), undefined, JSON.stringify(text));
  }
});
