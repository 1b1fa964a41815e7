// A walk through the console in a real Chromium, as an owner would go, against a platform that runs:
//
//   FLEEKS_HTTP    its plain listener, as http://127.0.0.1:8080
//   FLEEKS_HTTPS   its port of TLS
//   FLEEKS_DOMAIN  its domain
//   FLEEKS_KEY_FILE  the file of the first owner's key
//   FLEEKS_SHOTS   a directory for screenshots
//   FLEEKS_WAYS    if it runs in a network of its own, the ways out; see ways.ts
//
// Whatever else it finds, a breach of the content policy, an error in the browser's console, or a
// serious fault for somebody who does not see or does not point ends it.
import { readFileSync } from "node:fs";
import { Watch, launch, step } from "./rig";
import { keyboard } from "./walks/keyboard";
import { everywhere, signIn, wrongKeys } from "./walks/entrance";
import { files } from "./walks/files";
import { keys } from "./walks/keys";
import { jobsAndPorts } from "./walks/ports";
import { reconnecting, terminals } from "./walks/terminal";
import { create, remove, sleepAndWake } from "./walks/workspace";
import { operators } from "./walks/operators";
import { openWays } from "./ways";

const env = (name: string) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; see test/browser.ts`);
  return value;
};

const place = {
  http: env("FLEEKS_HTTP"),
  httpsPort: env("FLEEKS_HTTPS"),
  domain: env("FLEEKS_DOMAIN"),
  key: readFileSync(env("FLEEKS_KEY_FILE"), "utf8").trim(),
  shots: env("FLEEKS_SHOTS"),
};

const ways = await openWays();
const browser = await launch();
try {
  const watch = await Watch.open(browser, place);
  const project = `console-${process.pid}`;
  await step("wrong keys are refused", () => wrongKeys(watch));
  await step("the right one is let in", () => signIn(watch));
  await step("a workspace is made", () => create(watch, project));
  await step("a file is written, changed, deleted", () => files(watch));
  await step("a job runs, and its port is seen", () => jobsAndPorts(watch, project));
  await step("a terminal is typed into", () => terminals(watch, project));
  await step("its wire is cut", () => reconnecting(browser, watch, project));
  await step("it sleeps and wakes", () => sleepAndWake(watch, project));
  await step("a key is made and revoked", () => keys(watch));
  await step("pools and wakes are shown", () => operators(watch, project));
  await step("it is deleted", () => remove(watch, project));
  await step("without a mouse", () => keyboard(watch));
  await step("by every address", () => everywhere(browser, watch));
  watch.end();
} catch (error) {
  // What was seen last says more than a locator that was waited for.
  for (const page of browser.contexts().flatMap((context) => context.pages())) {
    const text = await page.locator("body").innerText({ timeout: 2000 }).catch(() => "");
    console.error(`--- ${page.url()}\n${text.slice(0, 2000)}`);
  }
  throw error;
} finally {
  await browser.close();
  ways.close();
}
