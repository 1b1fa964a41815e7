import assert from "node:assert/strict";
import type { Browser } from "playwright-core";
import type { Watch } from "../rig";

export async function wrongKeys(watch: Watch): Promise<void> {
  const { page, place } = watch;
  const answer = await page.goto(`${place.http}/console/`);
  const policy = answer?.headers()["content-security-policy"] ?? "";
  assert.match(policy, /^default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe|\*/);
  const field = page.getByLabel("API key");
  await field.waitFor();
  assert.equal(await field.evaluate((element) => element === document.activeElement), true, "the key may be typed at once");
  await watch.inspect("sign-in");
  await watch.narrow("sign-in");
  await field.fill("hunter2");
  await field.press("Enter");
  await page.getByText("Keys begin with fleeks_.").first().waitFor();
  watch.expectRefusal();
  await field.fill(`fleeks_sk_${"0".repeat(52)}`);
  await field.press("Enter");
  await page.getByText("That key does not open this platform").first().waitFor();
  await watch.inspect("sign-in-refused");
}

export async function signIn(watch: Watch): Promise<void> {
  const { page, place } = watch;
  await page.getByLabel("API key").fill(place.key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("heading", { name: "Workspaces" }).waitFor();
  const kept = await page.evaluate(() => [document.cookie, localStorage.length, sessionStorage.length].join());
  assert.equal(kept, ",0,0", "the key is kept nowhere");
}

/** The same page at the console's own host, over both listeners, and the API beside it. */
export async function everywhere(browser: Browser, watch: Watch): Promise<void> {
  const { http, httpsPort, domain, key } = watch.place;
  const port = new URL(http).port;
  for (const origin of [`http://console.${domain}:${port}`, `https://console.${domain}:${httpsPort}`]) {
    const other = await watch.over(browser);
    await other.page.goto(`${origin}/`);
    await other.page.getByLabel("API key").fill(key);
    await other.page.getByRole("button", { name: "Sign in" }).click();
    await other.page.getByRole("heading", { name: "Workspaces" }).waitFor();
    for (const path of ["/api/v1/nothing", "/console/assets/nothing.js"]) {
      const { status, type } = await other.visit(`${origin}${path}`);
      assert.ok(status === 401 || status === 404, `${path} answered ${status}`);
      assert.match(type, /^application\/json/, "a page is no answer to a call");
    }
    other.end();
    await other.context.close();
  }
}
