import assert from "node:assert/strict";
import type { Watch } from "../rig";

export async function keys(watch: Watch): Promise<void> {
  const { page, place } = watch;
  await page.getByRole("link", { name: "Keys" }).click();
  await page.getByText("in use here").waitFor();
  await page.getByRole("button", { name: "New key" }).click();
  await page.getByLabel("Name").fill("for a test");
  await page.getByRole("checkbox", { name: /^keys/ }).uncheck();
  await watch.inspect("new-key");
  await page.getByRole("button", { name: "Make the key" }).click();
  const dialog = page.getByRole("dialog", { name: "The new key" });
  const key = await dialog.locator("code").innerText();
  await dialog.getByRole("button", { name: "Copy the key" }).click();
  await dialog.getByText("Copied").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), key);
  await dialog.getByRole("button", { name: "I have it" }).click();
  assert.equal(await page.getByText(key).count(), 0, "it is shown once");
  const info = () =>
    page.request.get(`${place.http}/api/v1/sdk/auth/key-info`, { headers: { "x-api-key": key } });
  assert.equal((await info()).status(), 200);
  await watch.inspect("keys");
  await watch.narrow("keys");
  await page.getByRole("button", { name: "Revoke for a test" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await page.getByText("for a test was revoked.").waitFor();
  assert.equal((await info()).status(), 401);
}
