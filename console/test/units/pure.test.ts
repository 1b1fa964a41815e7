import assert from "node:assert/strict";
import { test } from "node:test";
import { detailOf, keyFault, path, withQuery } from "../../src/api";
import { ago, bytes, millis, percent, plural, span } from "../../src/format";
import { History } from "../../src/history";
import { plot } from "../../src/plot";
import { TABS, at, format, parse } from "../../src/router";
import { Tail } from "../../src/tail";
import { ancestors, children, kindOf, parent, withChildren, without } from "../../src/tree";
import type { FileInfo, OutputSince, Workspace } from "../../src/types";

test("addresses say what they name, and name what they say", () => {
  for (const hash of ["#/", "#/keys", "#/pools", "#/wakes", "#/w/demo", "#/w/demo/files?path=a%2Fb%20c"]) {
    assert.equal(format(parse(hash)), hash);
  }
  for (const tab of TABS) {
    assert.deepEqual(parse(at("a/b?ü", tab, "x#y")), { view: "workspace", project: "a/b?ü", tab, path: "x#y" });
  }
  assert.deepEqual(parse(""), { view: "workspaces" });
  for (const hash of ["#/nothing", "#/w", "#/w/demo/nothing", "#/w/%", "#/keys/x", "#/w/a/files/b"]) {
    assert.deepEqual(parse(hash), { view: "lost" }, hash);
  }
});

test("queries and paths are escaped", () => {
  assert.equal(withQuery("/a", { x: undefined }), "/a");
  assert.equal(withQuery("/a", { x: "b&c=d", n: 0, f: false }), "/a?x=b%26c%3Dd&n=0&f=false");
  assert.equal(path("a/b", "?"), "/a%2Fb/%3F");
});

test("what cannot be a key is said before anybody is asked", () => {
  assert.equal(keyFault("fleeks_sk_abc"), "");
  for (const text of ["", "sk_abc", "fleeks_ sk", "fleeks_sk_ü", "fleeks_\n"]) assert.notEqual(keyFault(text), "", text);
});

test("errors have words, whatever their shape", () => {
  assert.equal(detailOf({ detail: "no" }, 400), "no");
  assert.equal(detailOf({ detail: { message: "not so" } }, 409), "not so");
  for (const body of [null, {}, { detail: "" }, { detail: [] }, "x"]) {
    assert.equal(detailOf(body, 502), "the platform answered 502");
  }
});

test("numbers in words", () => {
  assert.deepEqual([0, 1023, 1536, 200 * 2 ** 20, 2 ** 50].map(bytes), [
    "0 B",
    "1023 B",
    "1.5 KiB",
    "200 MiB",
    "1024 TiB",
  ]);
  assert.deepEqual([0, 0.04, 0.4, 9.94, 99.6].map(percent), ["0 %", "0 %", "0.4 %", "9.9 %", "100 %"]);
  assert.deepEqual([0.04, 9.9, 123.4, 1500, 25_000].map(millis), ["0.0 ms", "9.9 ms", "123 ms", "1.50 s", "25.0 s"]);
  assert.deepEqual([-1, 0, 59, 60, 3661, 90_000].map(span), ["0 s", "0 s", "59 s", "1 min", "1 h 1 min", "1 d 1 h"]);
  assert.equal(plural(1, "entry", "entries"), "1 entry");
  assert.equal(plural(0, "key"), "0 keys");
  const now = Date.parse("2026-01-02T00:00:00Z");
  assert.equal(ago("2026-01-02T00:00:03Z", now), "just now");
  assert.equal(ago("2026-01-01T23:59:20Z", now), "40 s ago");
  assert.equal(ago("2026-01-01T00:00:00Z", now), "1 d ago");
  assert.equal(ago("nonsense", now), "");
});

test("plots fill their place and stay inside", () => {
  assert.equal(plot([1], 100, 20, 10), null);
  assert.deepEqual(plot([0, 5, 10], 100, 20, 10), { line: "M0 20L50 10L100 0", area: "M0 20L50 10L100 0L100 20L0 20Z" });
  assert.equal(plot([0, 40], 100, 20, 10)?.line, "M0 20L100 0");
  assert.equal(plot([-3, 0], 100, 20, 0)?.line, "M0 20L100 20");
});

function look(seconds: number, cpu: number, generation = 1): Workspace {
  const sampled_at = new Date(seconds * 1000).toISOString();
  const usage = { cpu_seconds: cpu, memory_bytes: 7, sampled_at };
  return { container_id: "c", generation, usage } as unknown as Workspace;
}

test("CPU use is what was added between two looks", () => {
  const history = new History();
  for (const workspace of [look(10, 1), look(12, 2), look(12, 2), look(14, 2)]) history.note(workspace);
  assert.deepEqual(history.of("c"), [
    { cpu: 50, memory: 7 },
    { cpu: 0, memory: 7 },
  ]);
  history.note(look(16, 0.5, 2));
  assert.deepEqual(history.of("c"), [], "a new container counts from nothing");
  for (let second = 17; second < 400; second += 1) history.note(look(second, second, 2));
  assert.equal(history.of("c").length, 60);
  const { usage: _, ...asleep } = look(500, 0);
  history.note(asleep as Workspace);
  assert.deepEqual(history.of("c"), []);
});

function part(bytes: number[], next: number, skipped = 0) {
  return { base64: Buffer.from(bytes).toString("base64"), next, skipped };
}

function output(status: string, stdout = part([], 0), stderr = part([], 0)): OutputSince {
  return { status, exit_code: null, since: { stdout, stderr } } as OutputSince;
}

test("output comes together from its parts", () => {
  const tail = new Tail();
  tail.add(output("running", part([0x61, 0xc3], 2)));
  tail.add(output("running", part([0xbc], 3), part([0x62], 1)));
  assert.equal(tail.text, "aüb");
  assert.deepEqual(tail.next, { stdout: 3, stderr: 1 });
  tail.add(output("completed", part([0x63], 9, 5), part([], 1)));
  assert.equal(tail.isOver, false, "something new came");
  assert.match(tail.text, /5 bytes were dropped[^]*c$/);
  tail.add(output("completed", part([], 9), part([], 1)));
  assert.equal(tail.isOver, true);
  tail.add(output("running", part(new Array(300_000).fill(0x64), 300_009), part([], 1)));
  assert.equal(tail.text.length, 200_000);
});

function file(path: string, type: FileInfo["type"] = "file"): FileInfo {
  return { path, name: path.split("/").at(-1), type } as FileInfo;
}

test("trees are sorted, and forget what is gone", () => {
  const names = [file("b10"), file("b9"), file("z", "directory")];
  let tree = withChildren({}, "", names);
  assert.deepEqual(children(tree, "")?.map((node) => node.name), ["z", "b9", "b10"]);
  tree = withChildren(tree, "z", [file("z/a", "directory")]);
  tree = withChildren(tree, "z/a", [file("z/a/b")]);
  assert.deepEqual(Object.keys(without(tree, "z")), [""]);
  assert.deepEqual(children(without(tree, "z"), "")?.map((node) => node.name), ["b9", "b10"]);
  assert.equal(children(tree, "constructor"), undefined);
  assert.deepEqual(["a", "a/b", "a/b/c"].map(parent), ["", "a", "a/b"]);
  assert.deepEqual([ancestors("a/b/c"), ancestors("a/"), ancestors("/"), ancestors("a")], [["", "a", "a/b"], ["", "a"], [""], [""]]);
});

test("only what is text is shown as text, and only pictures as pictures", async () => {
  assert.deepEqual(await kindOf("a.py", new Blob(["print('ü')\r\n"])), { kind: "text", text: "print('ü')\r\n" });
  assert.equal((await kindOf("a.svg", new Blob(["<svg onload=x>"]))).kind, "text");
  assert.equal((await kindOf("a.bin", new Blob([new Uint8Array([0xff, 0xfe])]))).kind, "bytes");
  assert.equal((await kindOf("a.txt", new Blob(["a\0b"]))).kind, "bytes");
  const picture = await kindOf("dir/A.PNG", new Blob(["x"]));
  assert.equal(picture.kind === "image" && picture.blob.type, "image/png");
  assert.equal((await kindOf("constructor", new Blob(["x"]))).kind, "text");
});
