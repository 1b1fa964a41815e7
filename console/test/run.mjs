// Bundles the tests and runs them: `node test/run.mjs units` those of the pure parts, by Node's own
// runner; `node test/run.mjs browser` the walk through the console in Chromium, which wants to know
// where a platform is (browser.ts).
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const [what = "units"] = process.argv.slice(2);
// Beside node_modules, so that what is not bundled is found.
const out = join(here, "..", "node_modules", `.${what}-${process.pid}`);

const entries = {
  units: readdirSync(join(here, "units")).filter((name) => name.endsWith(".test.ts")).map((name) => join("units", name)),
  browser: ["browser.ts"],
}[what];
if (!entries) {
  console.error("usage: node test/run.mjs units | browser");
  process.exit(2);
}
mkdirSync(out, { recursive: true });
try {
  await build({
    absWorkingDir: here,
    entryPoints: entries,
    bundle: true,
    platform: "node",
    format: "esm",
    packages: "external",
    sourcemap: "inline",
    outdir: out,
    outExtension: { ".js": ".mjs" },
    logLevel: "warning",
  });
  const made = entries.map((name) => join(out, `${name.split("/").at(-1).replace(/\.ts$/, "")}.mjs`));
  const runner = what === "units" ? ["--test", "--test-reporter=spec"] : [];
  const ran = spawnSync(process.execPath, ["--enable-source-maps", ...runner, ...made], { stdio: "inherit" });
  process.exitCode = ran.status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
