// What `make console` packed: small enough, and all of it from here.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { brotliDecompressSync, gunzipSync } from "node:zlib";

/** Of the first load: the page and what it names. */
const FIRST_LOAD_MAX = 120_000;

interface Entry {
  path: string;
  immutable: boolean;
  ranges: Partial<Record<"identity" | "gzip" | "br", [start: number, length: number]>>;
}

const pack = readFileSync(new URL("../../../build/console/pack", import.meta.url));
const length = pack.readUInt32LE(0);
const { files } = JSON.parse(pack.subarray(4, 4 + length).toString()) as { files: Entry[] };
const bytes = ([start, size]: [number, number]) => pack.subarray(4 + length + start, 4 + length + start + size);

function whole(entry: Entry): Buffer {
  assert.ok(entry.ranges.identity, entry.path);
  return bytes(entry.ranges.identity);
}

/** The page, and whatever it or what it loads at once names. */
function firstLoad(): Entry[] {
  const page = files.find((entry) => entry.path === "index.html");
  assert.ok(page);
  const text = whole(page).toString();
  const named = [...text.matchAll(/(?:src|href)="\/console\/([^"]+)"/g)].map((match) => match[1]);
  const found = named.map((name) => files.find((entry) => entry.path === name));
  assert.ok(found.length >= 3 && found.every((entry) => entry !== undefined), named.join());
  const all = [page, ...(found as Entry[])];
  for (const script of all) {
    if (!script.path.endsWith(".js")) continue;
    for (const [, name] of whole(script).toString().matchAll(/(?:^|[;}\s])import[^("]*"\.\/([^"]+)"/g)) {
      const chunk = files.find((entry) => entry.path === `assets/${name}`);
      assert.ok(chunk, name);
      if (!all.includes(chunk)) all.push(chunk);
    }
  }
  return all;
}

test("the first load is small", () => {
  const loaded = firstLoad();
  const sum = loaded.reduce((sum, entry) => sum + (entry.ranges.gzip ?? entry.ranges.identity ?? [0, 0])[1], 0);
  console.log(`first load, gzip: ${sum} bytes in ${loaded.length} files`);
  assert.ok(sum <= FIRST_LOAD_MAX, `${sum} bytes`);
  for (const entry of loaded) assert.doesNotMatch(whole(entry).toString(), /xterm/i, entry.path);
});

test("compressed forms are of the same bytes", () => {
  for (const entry of files) {
    const { gzip, br } = entry.ranges;
    if (gzip) assert.ok(gunzipSync(bytes(gzip)).equals(whole(entry)), entry.path);
    if (br) assert.ok(brotliDecompressSync(bytes(br)).equals(whole(entry)), entry.path);
  }
});

test("names follow content, and nothing comes from elsewhere", () => {
  for (const entry of files) {
    assert.equal(entry.immutable, entry.path.startsWith("assets/"));
    if (entry.immutable) assert.match(entry.path, /-[0-9A-Za-z]{8}\.\w+$/);
    if (!entry.path.endsWith(".css")) continue;
    assert.doesNotMatch(whole(entry).toString(), /@import|https?:/, entry.path);
  }
});
