// Bundles the console into one file, `build/console/pack`, which the binary includes: a length, an
// index as JSON, and the files, each as it is and compressed. Its form is described where it is
// read, in server/src/console/pack.rs. Written only when it would change, so that the binary is not
// linked again for nothing.
//
// Must never happen here: anything fetched, or a file whose name does not follow from its content
// (the page itself apart).
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "build", "console");
const base = "/console/assets/";

const kinds = {
  ".css": "text/css; charset=utf-8",
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".svg": "image/svg+xml",
};

/** Everything under `assets/`, named by its content. */
async function bundle() {
  const result = await build({
    absWorkingDir: here,
    entryPoints: { console: "src/main.tsx", style: "src/style.css", terminal: "src/terminal.css" },
    bundle: true,
    splitting: true,
    format: "esm",
    target: ["es2022"],
    minify: true,
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    entryNames: "[name]-[hash]",
    chunkNames: "[name]-[hash]",
    outdir: "assets",
    metafile: true,
    write: false,
    logLevel: "warning",
  });
  const names = {};
  for (const [path, made] of Object.entries(result.metafile.outputs)) {
    if (made.entryPoint) names[made.entryPoint] = basename(path);
  }
  const files = result.outputFiles.map((file) => ({
    path: `assets/${basename(file.path)}`,
    bytes: Buffer.from(file.contents),
  }));
  return { names, files };
}

function hashed(path) {
  const bytes = readFileSync(join(here, path));
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 8);
  const extension = extname(path);
  return { path: `assets/${basename(path, extension)}-${hash}${extension}`, bytes };
}

/** The page, with the names of what it loads first. */
function page(names, icon) {
  const html = readFileSync(join(here, "src/index.html"), "utf8");
  const filled = html
    .replace("{script}", base + names["src/main.tsx"])
    .replace("{style}", base + names["src/style.css"])
    .replace("{terminal-style}", base + names["src/terminal.css"])
    .replace("{icon}", base + basename(icon.path));
  if (/\{[a-z-]+\}/.test(filled)) throw new Error("the page has a place that nothing fills");
  return { path: "index.html", bytes: Buffer.from(filled) };
}

function encodings(bytes) {
  const made = {
    gzip: gzipSync(bytes, { level: 9 }),
    br: brotliCompressSync(bytes, {
      params: {
        [constants.BROTLI_PARAM_QUALITY]: 11,
        [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
      },
    }),
  };
  // The operating system's number in gzip's head would make the pack another one elsewhere.
  made.gzip[9] = 255;
  const wins = Object.entries(made).filter(([, small]) => small.length < bytes.length);
  return Object.fromEntries([["identity", bytes], ...wins]);
}

function pack(files) {
  const blobs = [];
  let offset = 0;
  const index = files.map((file) => {
    const ranges = {};
    for (const [encoding, bytes] of Object.entries(encodings(file.bytes))) {
      ranges[encoding] = [offset, bytes.length];
      blobs.push(bytes);
      offset += bytes.length;
    }
    const type = kinds[extname(file.path)];
    if (!type) throw new Error(`what type is ${file.path}?`);
    const hash = createHash("sha256").update(file.bytes).digest("hex").slice(0, 16);
    return { path: file.path, type, hash, immutable: file.path.startsWith("assets/"), ranges };
  });
  const head = Buffer.from(JSON.stringify({ files: index }));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(head.length);
  return Buffer.concat([length, head, ...blobs]);
}

const { names, files } = await bundle();
const icon = hashed("src/icon.svg");
files.push(icon);
files.sort((a, b) => (a.path < b.path ? -1 : 1));
const packed = pack([page(names, icon), ...files]);

mkdirSync(out, { recursive: true });
const target = join(out, "pack");
if (!existsSync(target) || !readFileSync(target).equals(packed)) {
  writeFileSync(`${target}.new`, packed);
  renameSync(`${target}.new`, target);
}
