// The browser, and what is watched in it all the time.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import axe, { type AxeResults } from "axe-core";
import { type Browser, type BrowserContext, type Page, chromium } from "playwright-core";

export interface Place {
  http: string;
  httpsPort: string;
  domain: string;
  key: string;
  shots: string;
}

/** No wait of a walk is longer, in milliseconds. A wake on a busy machine is the longest. */
const PATIENCE = 30_000;

export async function launch(): Promise<Browser> {
  const home = mkdtempSync(join(tmpdir(), "fleeks-console-"));
  const browser = await chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    env: { ...(process.env as Record<string, string>), HOME: home },
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  browser.on("disconnected", () => rmSync(home, { recursive: true, force: true }));
  return browser;
}

export async function step(name: string, walk: () => Promise<void>): Promise<void> {
  const began = Date.now();
  await walk();
  console.log(`ok ${((Date.now() - began) / 1000).toFixed(1)} s  ${name}`);
}

export class Watch {
  readonly faults: string[] = [];
  /** Answers of these are meant to be errors, which Chromium complains of in its console. */
  #expected = 0;
  /** Connections may fail, which Chromium complains of too. */
  #isCut = false;

  private constructor(
    readonly context: BrowserContext,
    readonly page: Page,
    readonly place: Place,
  ) {}

  static async open(browser: Browser, place: Place): Promise<Watch> {
    const context = await browser.newContext({
      viewport: { width: 1280, height: 800 },
      colorScheme: "light",
      permissions: ["clipboard-read", "clipboard-write"],
      ignoreHTTPSErrors: true,
    });
    context.setDefaultTimeout(PATIENCE);
    const page = await context.newPage();
    const watch = new Watch(context, page, place);
    watch.#listen(page);
    return watch;
  }

  /** The same watch over another page. */
  async over(browser: Browser): Promise<Watch> {
    const other = await Watch.open(browser, this.place);
    return other;
  }

  #listen(page: Page): void {
    page.on("console", (message) => {
      if (message.type() !== "error" && message.type() !== "warning") return;
      if (this.#expected > 0 && /status of 4\d\d/.test(message.text())) {
        this.#expected -= 1;
        return;
      }
      if (this.#isCut && /ERR_(CONNECTION|EMPTY|SOCKET)|WebSocket connection to/.test(message.text())) return;
      this.fault(`console: ${message.text()} (${message.location().url})`);
    });
    page.on("pageerror", (error) => this.fault(`page: ${error.stack ?? error.message}`));
    page.on("dialog", (dialog) => void dialog.accept());
  }

  /** Something is not as it should be; said at once, so that one sees after which step. */
  fault(text: string): void {
    this.faults.push(text);
    console.log(`fault: ${text}`);
  }

  /** One answer of the next deed is an error. */
  expectRefusal(): void {
    this.#expected += 1;
  }

  /** From now on connections may fail. */
  expectCut(): void {
    this.#isCut = true;
  }

  /** What a browser is answered there, after redirects; Node does not resolve names under localhost. */
  async visit(url: string): Promise<{ status: number; type: string }> {
    const page = await this.context.newPage();
    const answer = await page.goto(url);
    const told = { status: answer?.status() ?? 0, type: answer?.headers()["content-type"] ?? "" };
    await page.close();
    return told;
  }

  shot(name: string): Promise<Buffer> {
    return this.page.screenshot({ path: join(this.place.shots, `${name}.png`), animations: "disabled" });
  }

  /** Looks at a view in light and dark, with a shot of each. */
  async inspect(name: string): Promise<void> {
    for (const colorScheme of ["light", "dark"] as const) {
      await this.page.emulateMedia({ colorScheme });
      await this.shot(`${name}-${colorScheme}`);
      await this.#axe(`${name}, ${colorScheme}`);
    }
    await this.page.emulateMedia({ colorScheme: "light" });
  }

  async narrow(name: string): Promise<void> {
    const size = this.page.viewportSize();
    await this.page.setViewportSize({ width: 390, height: 844 });
    await this.shot(`${name}-narrow`);
    const overflow = await this.page.evaluate(
      () => document.documentElement.scrollWidth - document.documentElement.clientWidth,
    );
    if (overflow > 0) this.fault(`${name}: ${overflow} pixels too wide at 390`);
    if (size) await this.page.setViewportSize(size);
  }

  async #axe(where: string): Promise<void> {
    await this.page.evaluate(`window.axe || (() => { ${axe.source} })()`);
    const found = (await this.page.evaluate(
      "axe.run(document, { resultTypes: ['violations'], rules: { 'color-contrast': { enabled: true } } })",
    )) as AxeResults;
    for (const fault of found.violations) {
      const text = `${where}: ${fault.id} (${fault.impact}), ${fault.help}: ${fault.nodes
        .slice(0, 4)
        .map((node) => `${node.target.join(" ")} [${node.failureSummary?.split("\n").slice(1).join(";")}]`)
        .join(", ")}`;
      if (fault.impact === "serious" || fault.impact === "critical") this.fault(text);
      else console.log(`axe: ${text}`);
    }
  }

  /** Throws if anything was not as it should be. */
  end(): void {
    if (this.faults.length > 0) throw new Error(`the console has faults:\n${this.faults.join("\n")}`);
  }
}
