// A terminal, typed into, looked at by two, over a wire that is cut.
import assert from "node:assert/strict";
import type { Browser, Page } from "playwright-core";
import { Relay } from "../relay";
import { Watch } from "../rig";

export async function terminals(watch: Watch, project: string): Promise<void> {
  const { page } = watch;
  const loaded: string[] = [];
  page.on("request", (request) => loaded.push(request.url()));
  await page.getByRole("link", { name: "Terminal" }).click();
  await connected(page);
  assert.ok(loaded.some((url) => /\/screen-\w+\.js$/.test(url)), "what draws it comes with the first terminal");
  await line(page, "PS1='$ '; clear; kept=$((6 * 7)); echo is $kept");
  await shows(page, /^is 42$/m);
  await line(page, "printf '\\e[1;32mgreen \\e[34mblue \\e[31mred\\e[0m \\e[48;2;10;120;60;38;2;255;255;255m true \\e[0m\\n'");
  await shows(page, /^green blue red +true/m);
  const painted = page.locator(".xterm-rows span").filter({ hasText: /^\s*true\s*$/ }).last();
  assert.equal(await painted.evaluate((span) => getComputedStyle(span).backgroundColor), "rgb(10, 120, 60)");
  await line(page, "ls --color=always -la");
  await shows(page, /README|main\.py/);
  await watch.inspect("terminal");
  await watch.narrow("terminal");

  const spoken = page.getByRole("checkbox", { name: "Screen reader" });
  await spoken.check();
  await page.getByRole("listitem").filter({ hasText: "is 42" }).waitFor({ state: "attached" });
  await watch.inspect("terminal-spoken");
  await spoken.uncheck();

  // The window is smaller, and the shell knows.
  const size = page.viewportSize();
  await line(page, "until [ $(stty size | cut -d' ' -f2) -lt 90 ]; do sleep 0.1; done; echo narrow $((1 + 1))");
  await page.setViewportSize({ width: 760, height: 800 });
  await shows(page, /^narrow 2$/m);
  if (size) await page.setViewportSize(size);

  // Tab is the shell's; there is another way out, and from there the page's own keys are heard.
  await page.keyboard.type("ech");
  await page.keyboard.press("Tab");
  await page.keyboard.type("stayed-$((1 + 2))\n");
  await shows(page, /^stayed-3$/m);
  await page.keyboard.press("Control+Shift+ArrowUp");
  assert.ok(await page.evaluate(() => document.activeElement?.classList.contains("terminal-standing")));
  await page.keyboard.press("1");
  await page.getByRole("heading", { name: "In use" }).waitFor();
  await page.keyboard.press("2");
  await connected(page);
  await shows(page, /^stayed-3$/m);

  // More than can be drawn does no harm.
  await line(page, "head -c 6000000 /dev/zero | tr '\\0' '.'; clear");
  await line(page, "echo after-$((2 + 3))");
  await shows(page, /^after-5$/m);

  // What is selected is copied, and what is pasted is typed.
  await line(page, "clear; echo copy-$((40 + 2))-me");
  await shows(page, /^copy-42-me$/m);
  // The mouse is heard by what lies over the rows.
  const row = page.locator(".xterm-rows > div").filter({ hasText: /^copy-42-me\s*$/ });
  await row.dblclick({ position: { x: 20, y: 8 }, force: true });
  await page.keyboard.press("Control+Shift+C");
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "copy-42-me");
  await page.evaluate(() => navigator.clipboard.writeText("echo pasted-$((1 + 6))"));
  await page.keyboard.press("Control+Shift+V");
  await page.keyboard.press("Enter");
  await shows(page, /^pasted-7$/m);

  await page.getByRole("button", { name: `Put ${project} to sleep` }).click();
  await page.getByText("Asleep; what you type wakes it").waitFor();
  await watch.inspect("terminal-asleep");
  await page.getByRole("link", { name: "Overview" }).click();
  await page.getByRole("link", { name: "Terminal" }).click();
  await page.getByText("It does not run now.").waitFor();
  await page.getByRole("button", { name: "Open a terminal" }).click();
  await connected(page);
  await line(page, "echo still $kept");
  await shows(page, /^still 42$/m);

  await page.getByRole("button", { name: "New terminal" }).click();
  await page.getByRole("button", { name: "Terminal 2" }).and(page.locator("[aria-pressed=true]")).waitFor();
  await connected(page);
  await line(page, "exit 3");
  await page.getByText("Ended: with code 3").waitFor();
  await page.getByRole("button", { name: "End this terminal" }).click();
  await page.getByRole("button", { name: "Terminal 2" }).waitFor({ state: "detached" });
  await connected(page);
}

/** The wire is cut in the middle; meanwhile somebody else looks on from the console's own host. */
export async function reconnecting(browser: Browser, watch: Watch, project: string): Promise<void> {
  const { place } = watch;
  const relay = await Relay.open(place.http);
  const far = await Watch.open(browser, { ...place, http: relay.address });
  try {
    await enter(far, `${relay.address}/console/#/w/${project}/terminal`);
    const { page } = far;
    await connected(page);
    await line(page, "clear; echo first-$((1 + 1)); printf '\\e[c'; read -rs -t 20 -d c answer; echo answered ${#answer}");
    await shows(page, /^answered 6$/m);

    const near = await Watch.open(browser, place);
    await enter(near, `https://console.${place.domain}:${place.httpsPort}/#/w/${project}/terminal`);
    await connected(near.page);
    await shows(near.page, /^first-2$/m);
    assert.equal(await near.page.getByRole("button", { name: /^Terminal \d$/ }).count(), 1, "it is the same terminal");
    await line(near.page, "echo both-$((2 + 2))");
    for (const one of [near.page, page]) await shows(one, /^both-4$/m);

    far.expectCut();
    relay.cut();
    await page.getByText("Connecting…").waitFor();
    await line(near.page, "echo away-$((3 + 3))");
    await shows(near.page, /^away-6$/m);
    await line(page, "echo waited-$((4 + 4))");
    await far.shot("terminal-cut");
    relay.mend();
    await connected(page);
    await shows(page, /^waited-8$/m);
    const text = await drawn(page);
    for (const once of ["first-2", "both-4", "away-6", "waited-8"]) {
      assert.equal(text.split("\n").filter((row) => row === once).length, 1, `${once} is not there once:\n${text}`);
    }
    near.end();
    await near.context.close();
    await page.getByRole("button", { name: "End this terminal" }).click();
    await page.getByText("No terminal").waitFor();
    far.end();
  } finally {
    await far.context.close();
    relay.close();
  }
}

async function enter(watch: Watch, url: string): Promise<void> {
  await watch.page.goto(url);
  await watch.page.getByLabel("API key").fill(watch.place.key);
  await watch.page.getByRole("button", { name: "Sign in" }).click();
}

function connected(page: Page): Promise<void> {
  return page.locator(".terminal-standing.live").waitFor();
}

async function line(page: Page, text: string): Promise<void> {
  await page.getByRole("textbox", { name: "Terminal input" }).focus();
  await page.keyboard.type(`${text}\n`);
}

/** What is on the screen, row by row. */
async function drawn(page: Page): Promise<string> {
  const rows = await page.locator(".xterm-rows > div").allTextContents();
  return rows.map((row) => row.replaceAll("\u00a0", " ").trimEnd()).join("\n");
}

async function shows(page: Page, wanted: RegExp): Promise<void> {
  const until = Date.now() + 30_000;
  for (;;) {
    const text = await drawn(page);
    if (wanted.test(text)) return;
    if (Date.now() > until) assert.fail(`the terminal does not show ${wanted}:\n${text}`);
    await page.waitForTimeout(50);
  }
}
