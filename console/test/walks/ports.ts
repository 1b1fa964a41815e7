import assert from "node:assert/strict";
import type { Watch } from "../rig";

export async function jobsAndPorts(watch: Watch, project: string): Promise<void> {
  const { page, context } = watch;
  await page.getByRole("link", { name: "Jobs" }).click();
  await page.getByLabel("Run in the background").fill("python src/hello.py && python -u -m http.server 8123");
  await page.getByRole("button", { name: "Run" }).click();
  const output = page.getByRole("region", { name: /^Output of python/ });
  await output.getByText("line 2").waitFor();
  await watch.inspect("jobs");

  await page.getByRole("link", { name: "Ports" }).click();
  const link = page.getByRole("link", { name: /^8123--/ });
  await link.waitFor();
  const opened = context.waitForEvent("page");
  await link.click();
  const preview = await opened;
  await preview.getByText("Directory listing").first().waitFor();
  assert.equal(await preview.evaluate(() => window.opener), null);
  await preview.close();

  await page.getByRole("checkbox", { name: /^Private/ }).check();
  await page.getByText("Only share links open it now.").waitFor();
  await page.getByRole("button", { name: "New share link" }).click();
  await page.getByLabel("For whom").fill("a reader");
  await page.getByRole("button", { name: "Make the link" }).click();
  const dialog = page.getByRole("dialog", { name: "The share link" });
  const url = await dialog.locator("code").innerText();
  await watch.inspect("share-link");
  await dialog.getByRole("button", { name: "Done" }).click();
  await watch.inspect("ports");
  const refused = await watch.visit(new URL("/", url).href);
  assert.ok([401, 403, 404].includes(refused.status), `a private preview answered ${refused.status}`);
  assert.equal((await watch.visit(url)).status, 200);
  await page.getByRole("button", { name: "Revoke a reader" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await page.getByText("None.").waitFor();
  await page.getByRole("checkbox", { name: /^Private/ }).uncheck();
  await page.getByText("Whoever knows its address may look now.").waitFor();
  assert.equal(await page.getByRole("heading", { name: project }).count(), 1);
}
